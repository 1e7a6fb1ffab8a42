"""The paper's figures and tables, made from real runs; each is a function of a `Library`, registered by `@figure`."""
