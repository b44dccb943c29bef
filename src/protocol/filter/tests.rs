//! Which filters are allowed, and which tags they match.

use proptest::prelude::*;

use super::*;

fn leaf(key: &str, cmp: &str, val: &str) -> FilterNode {
    FilterNode { key: key.into(), cmp: cmp.into(), val: val.into(), ..Default::default() }
}

fn list(key: &str, cmp: &str, vals: &[&str]) -> FilterNode {
    FilterNode { vals: vals.iter().map(|it| (*it).to_owned()).collect(), ..leaf(key, cmp, "") }
}

fn branch(op: &str, nodes: impl Into<Vec<FilterNode>>) -> FilterNode {
    FilterNode { op: op.into(), nodes: nodes.into(), ..Default::default() }
}

fn tags(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn matches(node: &FilterNode, pairs: &[(&str, &str)]) -> bool {
    node.compile().expect("compiles").matches(&tags(pairs))
}

fn refusal(node: &FilterNode) -> String {
    node.compile().expect_err("is refused").to_string()
}

/// For each comparison with `val`: tags that match and tags that do not.
#[test]
fn comparisons_with_a_value() {
    let cases: [(&str, &str, &[&str], &[&str]); 9] = [
        ("eq", "b", &["b"], &["", "B", "bb", "ab"]),
        ("neq", "b", &["", "B", "bb"], &["b"]),
        ("sw", "ab", &["ab", "abc"], &["", "a", "cab"]),
        ("ew", "ab", &["ab", "cab"], &["", "b", "abc"]),
        ("ct", "ab", &["ab", "cabc"], &["", "acb"]),
        ("gt", "1.5", &["1.6", "2", "15", "1e1"], &["1.5", "1", "-2", "", "x", "0x2"]),
        ("gte", "1.5", &["1.50", "2"], &["1.49", "", "x"]),
        ("lt", "1.5", &["1.4999", "-1e9"], &["1.5", "2", "", "x"]),
        ("lte", "1.5", &["15e-1", "0"], &["1.500001", "", "x"]),
    ];
    for (cmp, val, matching, others) in cases {
        let node = leaf("key", cmp, val);
        for tag in matching {
            assert!(matches(&node, &[("key", tag), ("other", "z")]), "{tag} {cmp} {val}");
        }
        for tag in others {
            assert!(!matches(&node, &[("key", tag), ("other", val)]), "{tag} {cmp} {val}");
        }
    }
}

#[test]
fn only_the_negative_comparisons_match_a_missing_tag() {
    for cmp in ["eq", "sw", "ew", "ct", "gt", "gte", "lt", "lte"] {
        assert!(!matches(&leaf("key", cmp, "1"), &[]), "{cmp}");
    }
    assert!(matches(&leaf("key", "neq", "1"), &[]));
    assert!(!matches(&list("key", "in", &["1"]), &[]));
    assert!(matches(&list("key", "nin", &["1"]), &[]));
}

#[test]
fn a_missing_tag_is_in_a_list_with_the_empty_string() {
    let values = &["b", "", "a", "b"];
    assert!(matches(&list("key", "in", values), &[]));
    assert!(!matches(&list("key", "nin", values), &[]));
    for (value, within) in [("", true), ("a", true), ("b", true), ("c", false)] {
        assert_eq!(matches(&list("key", "in", values), &[("key", value)]), within, "{value}");
        assert_eq!(matches(&list("key", "nin", values), &[("key", value)]), !within, "{value}");
    }
}

#[test]
fn existence_needs_no_key_and_an_empty_tag_exists() {
    for key in ["key", ""] {
        assert!(matches(&leaf(key, "ex", ""), &[(key, "")]));
        assert!(!matches(&leaf(key, "ex", ""), &[]));
        assert!(!matches(&leaf(key, "nex", ""), &[(key, "")]));
        assert!(matches(&leaf(key, "nex", ""), &[]));
    }
}

#[test]
fn a_comparison_with_what_is_no_number_is_never_true() {
    for cmp in ["gt", "gte", "lt", "lte"] {
        assert!(!matches(&leaf("key", cmp, "many"), &[("key", "1")]));
        assert!(!matches(&leaf("key", cmp, "many"), &[("key", "many")]));
    }
}

#[test]
fn hostile_exponents_cost_nothing() {
    let node = leaf("key", "gt", "1e1000000000");
    assert!(!matches(&node, &[("key", "9e999999999")]));
    assert!(matches(&node, &[("key", "1e1000000001")]));
    assert!(!matches(&node, &[("key", "1e10000000000")]));
    assert!(matches(&leaf("key", "lt", "1e-1000000000"), &[("key", "0")]));
}

#[test]
fn branches_combine_their_nodes() {
    let (yes, no) = (leaf("a", "ex", ""), leaf("a", "nex", ""));
    for (op, nodes, expected) in [
        ("and", vec![&yes, &yes], true),
        ("and", vec![&yes, &no], false),
        ("or", vec![&no, &yes], true),
        ("or", vec![&no, &no], false),
        ("not", vec![&no], true),
        ("not", vec![&yes], false),
    ] {
        let nodes: Vec<_> = nodes.into_iter().cloned().collect();
        assert_eq!(matches(&branch(op, nodes), &[("a", "1")]), expected, "{op}");
    }
}

#[test]
fn broken_nodes_are_named_with_the_reason() {
    let with_val = |node: FilterNode| FilterNode { val: "1".into(), ..node };
    let with_vals = |node: FilterNode| FilterNode { vals: vec!["1".into()], ..node };
    for (node, reason) in [
        (leaf("k", "", "1"), "cmp \"\" is unknown; allowed are eq, neq, in,"),
        (leaf("k", "like", "1"), "cmp \"like\" is unknown"),
        (leaf("k", "eq", ""), "cmp eq needs a val"),
        (leaf("", "eq", "1"), "cmp eq needs a key"),
        (with_vals(leaf("k", "lte", "1")), "cmp lte takes val instead of vals"),
        (leaf("k", "gt", ""), "cmp gt needs a val"),
        (list("k", "in", &[]), "cmp in needs vals"),
        (list("", "nin", &["1"]), "cmp nin needs a key"),
        (with_val(list("k", "nin", &["1"])), "cmp nin takes vals instead of val"),
        (leaf("k", "ex", "1"), "cmp ex takes no val"),
        (list("k", "nex", &["1"]), "cmp nex takes no vals"),
        (branch("xor", []), "op \"xor\" is unknown; allowed are and, or, not"),
        (branch("and", []), "op and needs at least one in nodes, not 0"),
        (branch("or", []), "op or needs at least one in nodes, not 0"),
        (branch("not", []), "op not needs exactly one in nodes, not 0"),
        (branch("not", vec![leaf("k", "ex", ""); 2]), "op not needs exactly one in nodes, not 2"),
    ] {
        let text = refusal(&node);
        assert!(text.starts_with(&format!("tags filter: tf: {reason}")), "{text}");
        let deeper = branch("and", [leaf("k", "ex", ""), branch("not", [node])]);
        let text = refusal(&deeper);
        assert!(
            text.starts_with(&format!("tags filter: tf.nodes[1].nodes[0]: {reason}")),
            "{text}"
        );
    }
}

#[test]
fn errors_show_only_the_start_of_long_texts() {
    assert!(refusal(&leaf("k", &"\u{20ac}".repeat(1_000), "")).len() < 300);
}

#[test]
fn depth_and_size_are_bounded() {
    let nested = |depth| (1..depth).fold(leaf("k", "ex", ""), |node, _| branch("not", [node]));
    assert!(nested(MAX_DEPTH).compile().is_ok());
    assert!(refusal(&nested(MAX_DEPTH + 1)).ends_with("nests deeper than 32 levels"));

    let wide = |nodes| branch("or", vec![leaf("k", "ex", ""); nodes - 1]);
    assert!(wide(MAX_NODES).compile().is_ok());
    assert!(refusal(&wide(MAX_NODES + 1)).contains("tf.nodes[511]: is more than the 512 nodes"));
}

#[test]
fn a_compiled_leaf_stays_small() {
    assert!(size_of::<Node>() <= 48);
}

fn any_node() -> impl Strategy<Value = FilterNode> {
    let text = || prop_oneof![Just(String::new()), "[ab0-9.e-]{0,3}"];
    let cmp = prop_oneof![9 => proptest::sample::select(&COMPARISONS[..]), 1 => Just("")];
    let leaf = (text(), cmp, text(), proptest::collection::vec(text(), 0..3)).prop_map(
        |(key, cmp, val, vals)| FilterNode {
            key,
            cmp: cmp.into(),
            val,
            vals,
            ..Default::default()
        },
    );
    leaf.prop_recursive(4, 20, 4, |node| {
        let op = proptest::sample::select(&["", "and", "or", "not"][..]);
        (op, proptest::collection::vec(node, 0..4)).prop_map(|(op, nodes)| branch(op, nodes))
    })
}

proptest! {
    #[test]
    fn not_turns_every_filter_around(
        node in any_node(),
        tags in proptest::collection::btree_map("[ab]{0,2}", "[ab0-9.e-]{0,3}", 0..4),
    ) {
        let negated = branch("not", [node.clone()]).compile();
        match node.compile() {
            Ok(filter) => {
                let negated = negated.expect("is as valid");
                prop_assert_eq!(filter.matches(&tags), !negated.matches(&tags));
            }
            Err(_) => prop_assert!(negated.is_err()),
        }
    }
}
