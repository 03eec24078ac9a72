"""Average patches of classes in; what simulated ones they look like out."""

from latticewatch.identify._confirmation import Confirmation, confirmed

__all__ = ["Confirmation", "confirmed"]
