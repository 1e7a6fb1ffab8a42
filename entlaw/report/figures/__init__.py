"""The paper's figures and tables, made from real runs: one module a figure, each a pure function of a `Library`."""
