"""The paper's figures, computed from any results root: a pure function for each figure's data, and one renderer."""
