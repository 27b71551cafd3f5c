"""Tables: formats, profiles of columns, planning, encoding."""
