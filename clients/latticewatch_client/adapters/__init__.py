"""Events and targets into other people's frameworks: each module needs the extra of its name, and nothing else does."""
