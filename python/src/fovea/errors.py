"""What fovea raises: a message that names the thing, and what to do about it."""


class Error(Exception):
    """`kind` is one of the words of the C++ library: invalid_argument, not_found, corrupt, unsupported, exhausted, io, numeric."""

    def __init__(self, kind, message, remedy=""):
        super().__init__(f"{message}; {remedy}" if remedy else message)
        self.kind, self.message, self.remedy = kind, message, remedy

    def __reduce__(self):
        return type(self), (self.kind, self.message, self.remedy)
