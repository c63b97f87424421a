class Error(Exception):
    kind: str
    message: str
    remedy: str
    def __init__(self, kind: str, message: str, remedy: str = "") -> None: ...
