//! Patterns of LIKE.
//!
//! What lies between percent signs are pieces of a fixed number of characters, each of which is looked for where the one
//! before it ended: the first place is as good as any later one. So nothing is tried twice but within a piece with
//! underscores, and the steps of that are counted.

use super::eval::Budget;
use crate::Problem;
use alloc::{boxed::Box, string::String, vec::Vec};

/// A compiled pattern.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    /// What texts begin with.
    head: Piece,
    /// What follows somewhere behind it, in this order, and what they end with; without percent signs nothing does,
    /// not even other characters.
    rest: Option<(Vec<Piece>, Piece)>,
}

#[derive(Clone, Debug)]
enum Piece {
    /// Without underscores.
    Literal(Box<str>),
    /// `None` where any character will do.
    Mixed(Box<[Option<char>]>),
}

/// A piece in the making.
#[derive(Default)]
struct Draft(Vec<Option<char>>);

impl Draft {
    fn finish(&mut self) -> Piece {
        let units = core::mem::take(&mut self.0);
        let literal: Option<String> = units.iter().copied().collect();
        literal.map_or_else(|| Piece::Mixed(units.into()), |literal| Piece::Literal(literal.into()))
    }
}

impl Pattern {
    /// Of a pattern with its escape character, if it has one.
    pub(super) fn new(text: &str, escape: Option<char>) -> Result<Self, Problem> {
        let (mut pieces, mut draft) = (Vec::new(), Draft::default());
        let mut characters = text.chars();
        while let Some(character) = characters.next() {
            match character {
                character if Some(character) == escape => {
                    draft.0.push(Some(characters.next().ok_or(Problem::EscapeAtEnd)?));
                }
                '%' => pieces.push(draft.finish()),
                '_' => draft.0.push(None),
                other => draft.0.push(Some(other)),
            }
        }
        let last = draft.finish();
        let mut pieces = pieces.into_iter();
        Ok(match pieces.next() {
            Some(head) => {
                Self { head, rest: Some((pieces.filter(|piece| !piece.is_empty()).collect(), last)) }
            }
            None => Self { head: last, rest: None },
        })
    }

    /// Whether a text fits; `None` if that costs too much to know.
    pub(super) fn fits(&self, text: &str, budget: &Budget) -> Option<bool> {
        let Some(text) = self.head.strip_front(text, budget)? else { return Some(false) };
        let Some((middle, tail)) = &self.rest else { return Some(text.is_empty()) };
        let Some(mut text) = tail.strip_back(text, budget)? else { return Some(false) };
        for piece in middle {
            match piece.find(text, budget)? {
                Some(behind) => text = behind,
                None => return Some(false),
            }
        }
        Some(true)
    }
}

impl Piece {
    fn is_empty(&self) -> bool {
        matches!(self, Self::Literal(literal) if literal.is_empty())
    }

    /// What is behind the piece, if a text begins with it.
    fn strip_front<'t>(&self, text: &'t str, budget: &Budget) -> Option<Option<&'t str>> {
        match self {
            Self::Literal(literal) => {
                budget.spend_bytes(literal.len())?;
                Some(text.strip_prefix(&**literal))
            }
            Self::Mixed(units) => {
                let mut characters = text.chars();
                for unit in units {
                    budget.spend(1)?;
                    match (characters.next(), unit) {
                        (Some(_), None) => {}
                        (Some(character), Some(unit)) if character == *unit => {}
                        _ => return Some(None),
                    }
                }
                Some(Some(characters.as_str()))
            }
        }
    }

    /// What is before the piece, if a text ends with it.
    fn strip_back<'t>(&self, text: &'t str, budget: &Budget) -> Option<Option<&'t str>> {
        match self {
            Self::Literal(literal) => {
                budget.spend_bytes(literal.len())?;
                Some(text.strip_suffix(&**literal))
            }
            Self::Mixed(units) => {
                let mut characters = text.chars();
                for unit in units.iter().rev() {
                    budget.spend(1)?;
                    match (characters.next_back(), unit) {
                        (Some(_), None) => {}
                        (Some(character), Some(unit)) if character == *unit => {}
                        _ => return Some(None),
                    }
                }
                Some(Some(characters.as_str()))
            }
        }
    }

    /// What is behind the first place of the piece in a text.
    fn find<'t>(&self, text: &'t str, budget: &Budget) -> Option<Option<&'t str>> {
        if let Self::Literal(literal) = self {
            budget.spend_bytes(text.len())?;
            return Some(text.split_once(&**literal).map(|(_, behind)| behind));
        }
        for (start, _) in text.char_indices() {
            if let Some(behind) = self.strip_front(text.get(start..).unwrap_or_default(), budget)? {
                return Some(Some(behind));
            }
        }
        Some(None)
    }
}
