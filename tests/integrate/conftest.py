import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # for `import reference, circuits`
