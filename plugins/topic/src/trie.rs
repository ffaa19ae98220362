//! Patterns in a trie whose edges are words, `*` and `#`, walked by all paths at once.
//!
//! A key is matched word by word. What is kept between two words is the set of nodes reached so
//! far, each once: a node under a `#` stays in the set whatever word comes, and a node with a `#`
//! below it brings that one along, since `#` may stand for nothing. So the work is at most words of
//! the key times nodes reached, however many `#` a pattern has; trying the lengths of each `#` in
//! turn would take exponential time.
//!
//! Neighbouring wildcards are put in one order when a pattern comes in (`#.*.#` is `*.#`: at least
//! one word), so equal patterns share their nodes and no `#` is below another.
//!
//! All edges by a word are in one hash map from (node, word's number) to node. What is hashed there has one length
//! however long the word is: the bytes of a long word are hashed once a message, not once a node.

use crate::words::{NextWord, Word, WordId, Words, WordsOf, words_of};
use leveret_sdk::{BindingId, ExtendibleMap, SegmentedVec};

/// No node.
const NONE: u32 = u32::MAX;
/// The node where every pattern begins.
const ROOT: u32 = 0;

/// Binding ids by pattern.
#[derive(Debug)]
pub struct Trie {
    nodes: SegmentedVec<Node>,
    free: SegmentedVec<u32>,
    /// By a node and a word, to a node.
    edges: ExtendibleMap<(u32, WordId), u32>,
    words: Words,
    places: ExtendibleMap<BindingId, Place>,
    /// Grows with each word of each message, so that a node knows whether it is in the set.
    step: u64,
    reached: Vec<u32>,
    reached_next: Vec<u32>,
}

/// Where the end of a pattern is, and which bindings have it.
#[derive(Debug)]
struct Node {
    parent: u32,
    /// The edge from the parent.
    edge: Edge,
    /// The node one `*` further.
    star: u32,
    /// The node one `#` further.
    hash: u32,
    /// How many edges by a word go out.
    word_edges: u32,
    /// One of them, looked at before the others: many nodes have no other. `to` is [`NONE`] where it is not known.
    first: WordEdge,
    /// The last step in which it was reached.
    reached_in: u64,
    ids: Vec<BindingId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Edge {
    /// The root has none.
    None,
    Word(WordId),
    Star,
    Hash,
}

#[derive(Clone, Copy, Debug)]
struct WordEdge {
    word: WordId,
    to: u32,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    node: u32,
    position: u32,
}

impl Default for Trie {
    fn default() -> Self {
        Self {
            nodes: SegmentedVec::from_iter([Node::new(NONE, Edge::None)]),
            free: SegmentedVec::default(),
            edges: ExtendibleMap::default(),
            words: Words::default(),
            places: ExtendibleMap::default(),
            step: 0,
            reached: Vec::new(),
            reached_next: Vec::new(),
        }
    }
}

impl Node {
    fn new(parent: u32, edge: Edge) -> Self {
        let first = WordEdge { word: WordId::default(), to: NONE };
        Self { parent, edge, star: NONE, hash: NONE, word_edges: 0, first, reached_in: 0, ids: Vec::new() }
    }

    fn is_bare(&self) -> bool {
        self.ids.is_empty() && self.star == NONE && self.hash == NONE && self.word_edges == 0
    }
}

impl Trie {
    /// Adds a binding with this pattern. An id that is there already moves to the pattern.
    pub fn insert(&mut self, pattern: &[u8], id: BindingId) {
        self.remove(id);
        let mut node = ROOT;
        let (mut stars, mut hash) = (0, false);
        for word in words_of(pattern) {
            match word {
                b"*" => stars += 1,
                b"#" => hash = true,
                word => {
                    node = self.go_wildcards(node, stars, hash);
                    (stars, hash) = (0, false);
                    node = self.go_word(node, word);
                }
            }
        }
        node = self.go_wildcards(node, stars, hash);
        if let Some(end) = self.nodes.get_mut(node as usize) {
            self.places.insert(id, Place { node, position: end.ids.len() as u32 });
            end.ids.push(id);
        }
    }

    /// Removes a binding, and the nodes that no other pattern needs.
    pub fn remove(&mut self, id: BindingId) {
        let Some(place) = self.places.remove(&id) else {
            return;
        };
        let Some(node) = self.nodes.get_mut(place.node as usize) else {
            return;
        };
        let position = place.position as usize;
        if position < node.ids.len() {
            node.ids.swap_remove(position);
        }
        if let Some(moved) = node.ids.get(position).and_then(|moved| self.places.get_mut(moved)) {
            moved.position = place.position;
        }
        self.prune(place.node);
    }

    /// Passes on the bindings whose pattern matches a key, in groups, each binding once.
    #[inline(always)]
    pub fn find(&mut self, key: &[u8], mut found: impl FnMut(&[BindingId])) {
        let mut left = WordsOf::new(key);
        let mut at = ROOT;
        // As long as one node is reached there is no set to keep, and for most keys that is so to the end.
        let first = loop {
            let Some(node) = self.nodes.get(at as usize) else {
                return;
            };
            if node.hash != NONE || node.edge == Edge::Hash {
                break [at, NONE];
            }
            let Some(word) = left.next() else {
                if !node.ids.is_empty() {
                    found(&node.ids);
                }
                return;
            };
            let word = self.words.get(word);
            match (word_edge(&self.edges, at, node, word), node.star) {
                (NONE, NONE) => return,
                (to, NONE) | (NONE, to) => at = to,
                (to, star) => break [to, star],
            }
        };
        self.find_from(first, left, &mut found);
    }

    /// The bindings whose pattern matches a key, if all its words are short and no more than one node is reached by each;
    /// without a call of a function.
    #[inline(always)]
    pub fn find_at_once(&self, key: &[u8]) -> Option<&[BindingId]> {
        let mut left = WordsOf::new(key);
        let mut at = ROOT;
        loop {
            let node = self.nodes.get(at as usize)?;
            if node.hash != NONE || node.edge == Edge::Hash {
                return None;
            }
            let word = match left.next_short() {
                NextWord::Short(word) => word,
                NextWord::Long => return None,
                NextWord::End => return Some(&node.ids),
            };
            at = match (word_edge(&self.edges, at, node, Some(word)), node.star) {
                (NONE, NONE) => return Some(&[]),
                (to, NONE) | (NONE, to) => to,
                _ => return None,
            };
        }
    }

    /// The same from these nodes on, for the words that are left.
    #[inline(never)]
    fn find_from(&mut self, first: [u32; 2], left: WordsOf<'_>, found: &mut impl FnMut(&[BindingId])) {
        let Self { nodes, edges, words, reached, reached_next, step, .. } = self;
        *step += 1;
        reached.clear();
        first.iter().for_each(|at| reach(nodes, *step, *at, reached));
        for word in left {
            if reached.is_empty() {
                return;
            }
            *step += 1;
            reached_next.clear();
            let word = words.get(word);
            for &at in reached.iter() {
                let Some(node) = nodes.get(at as usize) else {
                    continue;
                };
                let (stays, star) = (node.edge == Edge::Hash, node.star);
                let by_word = word_edge(edges, at, node, word);
                if stays {
                    reach(nodes, *step, at, reached_next);
                }
                if star != NONE {
                    reach(nodes, *step, star, reached_next);
                }
                if by_word != NONE {
                    reach(nodes, *step, by_word, reached_next);
                }
            }
            std::mem::swap(reached, reached_next);
        }
        for &at in reached.iter() {
            match nodes.get(at as usize) {
                Some(node) if !node.ids.is_empty() => found(&node.ids),
                _ => {}
            }
        }
    }

    fn go_wildcards(&mut self, from: u32, stars: usize, hash: bool) -> u32 {
        let node = (0..stars).fold(from, |node, _| self.go_wildcard(node, Edge::Star));
        if hash { self.go_wildcard(node, Edge::Hash) } else { node }
    }

    fn go_wildcard(&mut self, from: u32, edge: Edge) -> u32 {
        let to = self.nodes.get(from as usize).map_or(NONE, |node| match edge {
            Edge::Hash => node.hash,
            _ => node.star,
        });
        if to != NONE {
            return to;
        }
        let to = self.add(from, edge);
        if let Some(node) = self.nodes.get_mut(from as usize) {
            *if edge == Edge::Hash { &mut node.hash } else { &mut node.star } = to;
        }
        to
    }

    fn go_word(&mut self, from: u32, word: &[u8]) -> u32 {
        let word = Word::of(word);
        if let Some(to) = self.words.get(word).and_then(|word| self.edges.get(&(from, word))) {
            return *to;
        }
        let word = self.words.hold(word);
        let to = self.add(from, Edge::Word(word));
        self.edges.insert((from, word), to);
        if let Some(node) = self.nodes.get_mut(from as usize) {
            node.word_edges += 1;
            if node.first.to == NONE {
                node.first = WordEdge { word, to };
            }
        }
        to
    }

    fn add(&mut self, parent: u32, edge: Edge) -> u32 {
        let node = Node::new(parent, edge);
        if let Some(free) = self.free.pop()
            && let Some(place) = self.nodes.get_mut(free as usize)
        {
            *place = node;
            return free;
        }
        self.nodes.push(node) as u32
    }

    /// Removes a node if nothing needs it, then its parent, and so on.
    fn prune(&mut self, mut at: u32) {
        while at != ROOT {
            let Some(node) = self.nodes.get_mut(at as usize).filter(|node| node.is_bare()) else {
                return;
            };
            let (parent_at, edge) = (node.parent, node.edge);
            node.ids = Vec::new();
            self.free.push(at);
            let Some(parent) = self.nodes.get_mut(parent_at as usize) else {
                return;
            };
            match edge {
                Edge::Star => parent.star = NONE,
                Edge::Hash => parent.hash = NONE,
                Edge::Word(word) => {
                    parent.word_edges -= 1;
                    if parent.first.to == at {
                        parent.first.to = NONE;
                    }
                    self.edges.remove(&(parent_at, word));
                    self.words.release(word);
                }
                Edge::None => {}
            }
            at = parent_at;
        }
    }

    /// How many nodes and long words are in use.
    #[cfg(test)]
    pub(crate) fn size(&self) -> (usize, usize) {
        (self.nodes.len() - self.free.len(), self.words.len())
    }
}

/// Where the edge by a word goes from a node; [`NONE`] if there is no such edge.
#[inline(always)]
fn word_edge(edges: &ExtendibleMap<(u32, WordId), u32>, at: u32, node: &Node, word: Option<WordId>) -> u32 {
    let WordEdge { word: first, to } = node.first;
    match word {
        Some(word) if to != NONE && first == word => to,
        Some(word) if node.word_edges > u32::from(to != NONE) => {
            edges.get(&(at, word)).copied().unwrap_or(NONE)
        }
        _ => NONE,
    }
}

/// Takes a node into the set, and the one below its `#`.
#[inline(always)]
fn reach(nodes: &mut SegmentedVec<Node>, step: u64, at: u32, set: &mut Vec<u32>) {
    let mut at = at;
    while let Some(node) = nodes.get_mut(at as usize) {
        if node.reached_in == step {
            return;
        }
        node.reached_in = step;
        set.push(at);
        at = node.hash;
    }
}
