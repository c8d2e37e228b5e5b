"""The state on the disk: the SQLite database, its journal, its migrations, its recovery, and the usage history."""
