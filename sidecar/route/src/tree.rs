//! A radix tree of prefixes, each with the routes that stand at it.

use smallvec::SmallVec;

/// Prefixes of paths, as bytes.
#[derive(Debug)]
pub(crate) struct PrefixTree {
    nodes: Vec<Node>,
}

/// The node 0 is the root and has no label.
#[derive(Debug, Default)]
struct Node {
    /// The bytes between the parent and this node.
    label: Box<[u8]>,
    /// Routes whose prefix ends here, ascending.
    routes: Vec<u32>,
    /// Children by the first byte of their label, sorted.
    children: SmallVec<[(u8, u32); 2]>,
}

impl Default for PrefixTree {
    fn default() -> Self {
        Self { nodes: vec![Node::default()] }
    }
}

impl PrefixTree {
    /// Adds a route at a prefix; routes have to come in ascending order.
    pub(crate) fn insert(&mut self, prefix: &[u8], route: u32) {
        let mut at = 0;
        let mut rest = prefix;
        while let Some(&first) = rest.first() {
            let place = match self.nodes[at].child(first) {
                Ok(place) => place,
                Err(place) => {
                    at = self.push_child(at, place, rest);
                    break;
                }
            };
            let child = self.nodes[at].children[place].1 as usize;
            let common = common_length(&self.nodes[child].label, rest);
            if common < self.nodes[child].label.len() {
                self.split(child, common);
            }
            rest = &rest[common..];
            at = child;
        }
        self.nodes[at].routes.push(route);
    }

    /// Hands over the routes of every prefix that `path` begins with, shortest prefix first.
    pub(crate) fn collect<'a>(&'a self, path: &[u8], mut found: impl FnMut(&'a [u32])) {
        let mut node = &self.nodes[0];
        let mut rest = path;
        loop {
            if !node.routes.is_empty() {
                found(&node.routes);
            }
            let Some(place) = rest.first().and_then(|first| node.child(*first).ok()) else {
                return;
            };
            node = &self.nodes[node.children[place].1 as usize];
            let Some(after) = rest.strip_prefix(&*node.label) else { return };
            rest = after;
        }
    }

    fn push_child(&mut self, parent: usize, place: usize, label: &[u8]) -> usize {
        let child = self.nodes.len();
        self.nodes.push(Node { label: label.into(), ..Node::default() });
        self.nodes[parent].children.insert(place, (label[0], index(child)));
        child
    }

    /// Cuts a node's label after `length` bytes; the rest becomes its only child.
    fn split(&mut self, at: usize, length: usize) {
        let lower = self.nodes.len();
        let node = &mut self.nodes[at];
        let tail: Box<[u8]> = node.label[length..].into();
        let first = tail[0];
        node.label = node.label[..length].into();
        let routes = std::mem::take(&mut node.routes);
        let children = std::mem::take(&mut node.children);
        node.children.push((first, index(lower)));
        self.nodes.push(Node { label: tail, routes, children });
    }
}

impl Node {
    fn child(&self, first: u8) -> Result<usize, usize> {
        self.children.binary_search_by_key(&first, |(byte, _)| *byte)
    }
}

fn index(node: usize) -> u32 {
    u32::try_from(node).expect("invariant: prefixes of one host have fewer than 2^32 bytes")
}

fn common_length(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(tree: &PrefixTree, path: &str) -> Vec<u32> {
        let mut routes = Vec::new();
        tree.collect(path.as_bytes(), |more| routes.extend_from_slice(more));
        routes
    }

    #[test]
    fn all_prefixes_of_a_path_are_found_and_no_others() {
        let mut tree = PrefixTree::default();
        for (route, prefix) in
            ["/api/v1", "/api", "/", "/apiary", "/api/v2", "", "/api"].iter().enumerate()
        {
            tree.insert(prefix.as_bytes(), u32::try_from(route).unwrap());
        }
        assert_eq!(found(&tree, "/api/v1/x"), [5, 2, 1, 6, 0]);
        assert_eq!(found(&tree, "/apiary"), [5, 2, 1, 6, 3]);
        assert_eq!(found(&tree, "/ap"), [5, 2]);
        assert_eq!(found(&tree, "x"), [5]);
    }
}
