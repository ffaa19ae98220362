//! Encoding and decoding are each other's inverse, whichever encoding was chosen; ours is the smallest; and no bytes
//! make decoding panic or give more than there is.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use leveret_amqp10::types::{
    FREE_ELEMENTS_MAX, ListBuilder, MapBuilder, Reader, Symbol, Timestamp, Uuid, Value, code, write,
};
use proptest::{collection::vec, prelude::*};

/// An owned value.
#[derive(Clone, Debug, PartialEq)]
enum Tree {
    /// Any type of a fixed size.
    Fixed(Value<'static>),
    Binary(Vec<u8>),
    String(String),
    Symbol(String),
    List(Vec<Tree>),
    Map(Vec<(Tree, Tree)>),
    Array(Vec<Tree>),
    Described(Box<Tree>, Box<Tree>),
}

fn fixed() -> impl Strategy<Value = Tree> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u8>().prop_map(Value::from),
        any::<u16>().prop_map(Value::from),
        prop_oneof![0..3_u32, 250..260_u32, any::<u32>()].prop_map(Value::from),
        prop_oneof![0..3_u64, 250..260_u64, any::<u64>()].prop_map(Value::from),
        any::<i8>().prop_map(Value::from),
        any::<i16>().prop_map(Value::from),
        prop_oneof![-130..130_i32, any::<i32>()].prop_map(Value::from),
        prop_oneof![-130..130_i64, any::<i64>()].prop_map(Value::from),
        any::<f32>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<[u8; 4]>().prop_map(Value::Decimal32),
        any::<[u8; 8]>().prop_map(Value::Decimal64),
        any::<[u8; 16]>().prop_map(Value::Decimal128),
        any::<char>().prop_map(Value::from),
        any::<i64>().prop_map(|milliseconds| Timestamp(milliseconds).into()),
        any::<[u8; 16]>().prop_map(|bytes| Uuid(bytes).into()),
    ]
    .prop_filter("what is no number is not equal to itself", |value| {
        !matches!(value, Value::Float(number) if number.is_nan())
            && !matches!(value, Value::Double(number) if number.is_nan())
    })
    .prop_map(Tree::Fixed)
}

fn leaf() -> impl Strategy<Value = Tree> {
    prop_oneof![
        4 => fixed(),
        1 => vec(any::<u8>(), 0..300).prop_map(Tree::Binary),
        1 => ".{0,90}".prop_map(Tree::String),
        1 => "[ -~]{0,300}".prop_map(Tree::Symbol),
    ]
}

fn tree() -> impl Strategy<Value = Tree> {
    leaf().prop_recursive(4, 60, 8, |inner| {
        let lists = vec(inner.clone(), 0..8).prop_map(Tree::List);
        let pairs = vec((inner.clone(), inner.clone()), 0..5);
        prop_oneof![
            lists.clone(),
            pairs.clone().prop_map(Tree::Map),
            array(any::<u32>().prop_map(|number| Tree::Fixed(number.into()))),
            array((0..2_u64).prop_map(|number| Tree::Fixed(number.into()))),
            array(any::<bool>().prop_map(|boolean| Tree::Fixed(boolean.into()))),
            array(".{0,90}".prop_map(Tree::String)),
            array(lists.clone()),
            array(pairs.prop_map(Tree::Map)),
            array(vec(any::<u8>(), 0..9).prop_map(|bytes| {
                let descriptor = Box::new(Tree::Fixed(0x75_u64.into()));
                Tree::Described(descriptor, Box::new(Tree::Binary(bytes)))
            })),
            array(array(any::<i16>().prop_map(|number| Tree::Fixed(number.into())))),
            (leaf(), inner).prop_map(|(descriptor, value)| Tree::Described(descriptor.into(), value.into())),
        ]
    })
}

fn array(of: impl Strategy<Value = Tree> + 'static) -> impl Strategy<Value = Tree> {
    vec(of, 0..8).prop_map(Tree::Array)
}

/// Writes as the broker does: from the inside out.
fn put(out: &mut Vec<u8>, tree: &Tree) {
    match tree {
        Tree::Fixed(value) => write::put(out, *value),
        Tree::Binary(bytes) => write::put(out, &**bytes),
        Tree::String(text) => write::put(out, &**text),
        Tree::Symbol(text) => write::put(out, Symbol::new(text)),
        Tree::List(trees) => {
            let mut list = ListBuilder::new();
            for tree in trees {
                with(tree, |value| {
                    list.push(value);
                });
            }
            write::put(out, list.view());
        }
        Tree::Map(pairs) => {
            let mut map = MapBuilder::new();
            for (key, mapped) in pairs {
                with(key, |key| {
                    with(mapped, |mapped| {
                        map.push(key, mapped);
                    });
                });
            }
            write::put(out, map.view());
        }
        Tree::Array(trees) => {
            let encoded: Vec<Vec<u8>> = trees.iter().map(written).collect();
            let elements = encoded.iter().map(|bytes| Reader::new(bytes).value().unwrap());
            write::put_array(out, elements).unwrap();
        }
        Tree::Described(descriptor, value) => {
            out.push(code::DESCRIBED);
            put(out, descriptor);
            put(out, value);
        }
    }
}

fn written(tree: &Tree) -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out, tree);
    out
}

fn with<R>(tree: &Tree, then: impl FnOnce(Value<'_>) -> R) -> R {
    then(Reader::new(&written(tree)).value().unwrap())
}

/// Writes with encodings that `choose` picks among those that can say it: by their number, which one.
fn put_any(out: &mut Vec<u8>, tree: &Tree, choose: &mut dyn FnMut(usize) -> usize) {
    let sized = |out: &mut Vec<u8>, code: u8, choose: &mut dyn FnMut(usize) -> usize, bytes: &[u8]| {
        if bytes.len() < 256 && choose(2) == 0 {
            out.extend([code, u8::try_from(bytes.len()).unwrap()]);
        } else {
            out.push(code + 0x10);
            out.extend(u32::try_from(bytes.len()).unwrap().to_be_bytes());
        }
        out.extend(bytes);
    };
    let compound = |out: &mut Vec<u8>,
                    code: u8,
                    count: usize,
                    content: &[u8],
                    choose: &mut dyn FnMut(usize) -> usize| {
        if content.len() < 255 && choose(2) == 0 {
            let bytes = u8::try_from(content.len() + 1).unwrap();
            out.extend([code, bytes, u8::try_from(count).unwrap()]);
        } else {
            out.push(code + 0x10);
            out.extend(u32::try_from(content.len() + 4).unwrap().to_be_bytes());
            out.extend(u32::try_from(count).unwrap().to_be_bytes());
        }
        out.extend(content);
    };
    match tree {
        Tree::Fixed(value) => {
            let all = encodings(value);
            out.extend(&all[choose(all.len())]);
        }
        Tree::Binary(bytes) => sized(out, code::VBIN8, choose, bytes),
        Tree::String(text) => sized(out, code::STR8, choose, text.as_bytes()),
        Tree::Symbol(text) => sized(out, code::SYM8, choose, text.as_bytes()),
        Tree::List(trees) if trees.is_empty() && choose(2) == 0 => out.push(code::LIST0),
        Tree::List(trees) => {
            let mut content = Vec::new();
            trees.iter().for_each(|tree| put_any(&mut content, tree, choose));
            compound(out, code::LIST8, trees.len(), &content, choose);
        }
        Tree::Map(pairs) => {
            let mut content = Vec::new();
            for (key, mapped) in pairs {
                put_any(&mut content, key, choose);
                put_any(&mut content, mapped, choose);
            }
            compound(out, code::MAP8, pairs.len() * 2, &content, choose);
        }
        // Only the head of an array is chosen: its elements share one code.
        Tree::Array(trees) => {
            let whole = written(tree);
            let head_bytes = if whole[0] == code::ARRAY8 { 3 } else { 9 };
            compound(out, code::ARRAY8, trees.len(), &whole[head_bytes..], choose);
        }
        Tree::Described(descriptor, value) => {
            out.push(code::DESCRIBED);
            put_any(out, descriptor, choose);
            put_any(out, value, choose);
        }
    }
}

/// All encodings of a value of a fixed size.
fn encodings(value: &Value<'_>) -> Vec<Vec<u8>> {
    let full = |code: u8, bytes: &[u8]| [&[code][..], bytes].concat();
    let mut all = match value {
        Value::Boolean(boolean) => vec![vec![code::BOOLEAN, u8::from(*boolean)]],
        Value::Uint(number) => vec![full(code::UINT, &number.to_be_bytes())],
        Value::Ulong(number) => vec![full(code::ULONG, &number.to_be_bytes())],
        Value::Int(number) => vec![full(code::INT, &number.to_be_bytes())],
        Value::Long(number) => vec![full(code::LONG, &number.to_be_bytes())],
        _ => vec![],
    };
    match value {
        Value::Uint(number @ 0..=255) => all.push(vec![code::SMALL_UINT, u8::try_from(*number).unwrap()]),
        Value::Ulong(number @ 0..=255) => all.push(vec![code::SMALL_ULONG, u8::try_from(*number).unwrap()]),
        _ => {}
    }
    let mut ours = Vec::new();
    write::put(&mut ours, *value);
    all.push(ours);
    all
}

fn tree_of(value: Value<'_>) -> Tree {
    match value {
        Value::Binary(bytes) => Tree::Binary(bytes.to_vec()),
        Value::String(text) => Tree::String(text.to_owned()),
        Value::Symbol(symbol) => Tree::Symbol(symbol.as_str().to_owned()),
        Value::List(list) => Tree::List(list.iter().map(tree_of).collect()),
        Value::Map(map) => Tree::Map(map.iter().map(|(key, value)| (tree_of(key), tree_of(value))).collect()),
        Value::Array(array) => Tree::Array(array.iter().map(tree_of).collect()),
        Value::Described(described) => {
            Tree::Described(tree_of(described.descriptor()).into(), tree_of(described.value()).into())
        }
        Value::Null => Tree::Fixed(Value::Null),
        Value::Boolean(value) => Tree::Fixed(value.into()),
        Value::Ubyte(value) => Tree::Fixed(value.into()),
        Value::Ushort(value) => Tree::Fixed(value.into()),
        Value::Uint(value) => Tree::Fixed(value.into()),
        Value::Ulong(value) => Tree::Fixed(value.into()),
        Value::Byte(value) => Tree::Fixed(value.into()),
        Value::Short(value) => Tree::Fixed(value.into()),
        Value::Int(value) => Tree::Fixed(value.into()),
        Value::Long(value) => Tree::Fixed(value.into()),
        Value::Float(value) => Tree::Fixed(value.into()),
        Value::Double(value) => Tree::Fixed(value.into()),
        Value::Decimal32(bytes) => Tree::Fixed(Value::Decimal32(bytes)),
        Value::Decimal64(bytes) => Tree::Fixed(Value::Decimal64(bytes)),
        Value::Decimal128(bytes) => Tree::Fixed(Value::Decimal128(bytes)),
        Value::Char(value) => Tree::Fixed(value.into()),
        Value::Timestamp(value) => Tree::Fixed(value.into()),
        Value::Uuid(value) => Tree::Fixed(value.into()),
    }
}

/// How many values there are in all; more than there may be is a failure.
fn count(value: Value<'_>, left: &mut usize) {
    *left = left.checked_sub(1).unwrap();
    match value {
        Value::List(list) => list.iter().for_each(|value| count(value, left)),
        Value::Map(map) => map.iter().for_each(|(key, value)| {
            count(key, left);
            count(value, left);
        }),
        // Elements share their descriptors, which lie there once.
        Value::Array(array) => {
            for (number, value) in array.iter().enumerate() {
                count_constructed(value, left, number == 0);
            }
        }
        Value::Described(_) => count_constructed(value, left, true),
        _ => {}
    }
}

fn count_constructed(value: Value<'_>, left: &mut usize, with_descriptors: bool) {
    match value {
        Value::Described(described) => {
            if with_descriptors {
                count(described.descriptor(), left);
            }
            count_constructed(described.value(), left, with_descriptors);
        }
        other => count(other, left),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_value_comes_back_and_a_cut_one_does_not(tree in tree()) {
        let bytes = written(&tree);
        let mut reader = Reader::new(&bytes);
        let value = reader.value().unwrap();
        prop_assert!(reader.is_empty());
        prop_assert_eq!(&tree_of(value), &tree);
        // What was borrowed is written as it came.
        let mut again = Vec::new();
        write::put(&mut again, value);
        prop_assert_eq!(&again, &bytes);
        prop_assert_eq!(Reader::new(&bytes).span(), Ok(&bytes[..]));
        for end in 0..bytes.len() {
            prop_assert!(Reader::new(&bytes[..end]).value().is_err(), "cut at {}", end);
        }
    }

    #[test]
    fn whichever_encoding_was_chosen_it_reads_the_same_and_ours_is_no_longer(
        tree in tree(),
        choices in vec(any::<u8>(), 1..40),
    ) {
        let mut choices = choices.iter().cycle();
        let mut bytes = Vec::new();
        put_any(&mut bytes, &tree, &mut |of| usize::from(*choices.next().unwrap()) % of);
        let mut reader = Reader::new(&bytes);
        let value = reader.value().unwrap();
        prop_assert!(reader.is_empty());
        prop_assert_eq!(&tree_of(value), &tree);
        let ours = written(&tree);
        prop_assert!(ours.len() <= bytes.len());
        prop_assert_eq!(Reader::new(&ours).value().unwrap(), value, "equal, however they are encoded");
    }

    #[test]
    fn bytes_that_were_changed_are_refused_or_read(
        tree in tree(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
    ) {
        let mut bytes = written(&tree);
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        reads_no_more_than_there_is(&bytes);
    }

    #[test]
    fn any_bytes_are_refused_or_read(bytes in vec(any::<u8>(), 0..200)) {
        reads_no_more_than_there_is(&bytes);
    }
}

fn reads_no_more_than_there_is(bytes: &[u8]) {
    let mut reader = Reader::new(bytes);
    let Ok(value) = reader.value() else { return };
    let took = bytes.len() - reader.rest().len();
    assert_eq!(Reader::new(bytes).span(), Ok(&bytes[..took]));
    count(value, &mut (took + FREE_ELEMENTS_MAX));
    let mut ours = Vec::new();
    write::put(&mut ours, value);
    assert!(ours.len() <= took);
    let mut again = Vec::new();
    write::put(&mut again, Reader::new(&ours).value().unwrap());
    assert_eq!(again, ours);
}
