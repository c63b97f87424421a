from types import ModuleType

from .engine import Answer as Answer, Chat as Chat, Engine as Engine, Plan as Plan
from .errors import Error as Error
from .probe.audit import probe as probe
from .verify.compare import verify as verify

__version__: str
transformers: ModuleType
