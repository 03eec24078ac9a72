"""Average patches of classes in; what simulated ones they look like out."""

from latticewatch.identify._confirmation import Confirmation, confirmed
from latticewatch.identify._names import named_by_element

__all__ = ["Confirmation", "confirmed", "named_by_element"]
