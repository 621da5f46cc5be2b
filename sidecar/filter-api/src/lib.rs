//! What a filter is: the traits, the flow of control and the context that a filter sees.
