"""The paper's figures from any results root: a pure data function each, and one renderer."""
