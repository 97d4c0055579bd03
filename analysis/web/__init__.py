"""What the report and the live page share: templates, colours, and SVG."""
