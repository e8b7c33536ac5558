"""`python -m pyloric_db`: the command line, where its script is not on the path."""

from pyloric_db.cli import main

if __name__ == "__main__":
    main()
