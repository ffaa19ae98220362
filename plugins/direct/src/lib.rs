//! The direct exchange type.
