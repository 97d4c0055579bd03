"""Numbers that change on purpose only, of kinds of devices that had them computed."""
