"""What the sources share: opening files, lines of logs, tables, records, containers and messages."""
