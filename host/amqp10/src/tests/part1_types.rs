//! Part 1: types.

use super::hex;
use crate::{
    condition::Condition,
    types::{
        DecodeError, Described, FREE_ELEMENTS_MAX, List, ListBuilder, Map, MapBuilder, NotUniform, Reader,
        Symbol, Timestamp, Uuid, Value, code, write,
    },
};
use alloc::{string::String, vec, vec::Vec};
use leveret_model::limits::VALUE_DEPTH_MAX;

const CODES: [u8; 39] = [
    code::NULL,
    code::TRUE,
    code::FALSE,
    code::UINT0,
    code::ULONG0,
    code::LIST0,
    code::UBYTE,
    code::BYTE,
    code::SMALL_UINT,
    code::SMALL_ULONG,
    code::SMALL_INT,
    code::SMALL_LONG,
    code::BOOLEAN,
    code::USHORT,
    code::SHORT,
    code::UINT,
    code::INT,
    code::FLOAT,
    code::CHAR,
    code::DECIMAL32,
    code::ULONG,
    code::LONG,
    code::DOUBLE,
    code::TIMESTAMP,
    code::DECIMAL64,
    code::DECIMAL128,
    code::UUID,
    code::VBIN8,
    code::STR8,
    code::SYM8,
    code::VBIN32,
    code::STR32,
    code::SYM32,
    code::LIST8,
    code::MAP8,
    code::LIST32,
    code::MAP32,
    code::ARRAY8,
    code::ARRAY32,
];

fn read(bytes: &[u8]) -> Result<Value<'_>, DecodeError> {
    let mut reader = Reader::new(bytes);
    let value = reader.value()?;
    assert!(reader.is_empty(), "{:?} is left of {bytes:?}", reader.rest());
    Ok(value)
}

fn written<'a>(value: impl Into<Value<'a>>) -> Vec<u8> {
    let mut out = Vec::new();
    write::put(&mut out, value);
    out
}

fn array(elements: &[Value<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    write::put_array(&mut out, elements.iter().copied()).unwrap();
    out
}

/// Encodings of values; the smallest first.
fn rows() -> Vec<(Value<'static>, Vec<&'static str>)> {
    let decimal128 = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];
    vec![
        (Value::Null, vec!["40"]),
        (true.into(), vec!["41", "5601"]),
        (false.into(), vec!["42", "5600"]),
        (0xfe_u8.into(), vec!["50fe"]),
        (0xfffe_u16.into(), vec!["60fffe"]),
        (0_u32.into(), vec!["43", "5200", "7000000000"]),
        (255_u32.into(), vec!["52ff", "70000000ff"]),
        (256_u32.into(), vec!["7000000100"]),
        (0_u64.into(), vec!["44", "5300", "800000000000000000"]),
        (255_u64.into(), vec!["53ff", "8000000000000000ff"]),
        (u64::MAX.into(), vec!["80ffffffffffffffff"]),
        ((-1_i8).into(), vec!["51ff"]),
        ((-2_i16).into(), vec!["61fffe"]),
        ((-128_i32).into(), vec!["5480", "71ffffff80"]),
        (128_i32.into(), vec!["7100000080"]),
        ((-1_i64).into(), vec!["55ff", "81ffffffffffffffff"]),
        ((-129_i64).into(), vec!["81ffffffffffffff7f"]),
        (1.5_f32.into(), vec!["723fc00000"]),
        ((-2.0_f64).into(), vec!["82c000000000000000"]),
        (Value::Decimal32([0x22, 0x50, 0, 1]), vec!["7422500001"]),
        (Value::Decimal64([0x22, 0x34, 0, 0, 0, 0, 0, 1]), vec!["842234000000000001"]),
        (Value::Decimal128(decimal128), vec!["940102030405060708090a0b0c0d0e0f10"]),
        ('\u{1f407}'.into(), vec!["730001f407"]),
        (Timestamp(-1).into(), vec!["83ffffffffffffffff"]),
        (Uuid(decimal128).into(), vec!["980102030405060708090a0b0c0d0e0f10"]),
        ((&b"\x00\xff"[..]).into(), vec!["a00200ff", "b00000000200ff"]),
        ("h\u{e9}".into(), vec!["a10368c3a9", "b10000000368c3a9"]),
        (Symbol::from_static("sym").into(), vec!["a30373796d", "b30000000373796d"]),
        (List::EMPTY.into(), vec!["45", "c00100", "d00000000400000000"]),
        (Map::EMPTY.into(), vec!["c10100", "d10000000400000000"]),
    ]
}

// 1.6 Primitive type definitions

#[test]
fn each_encoding_is_read_and_the_smallest_is_written() {
    let mut seen: Vec<u8> = Vec::new();
    for (value, encodings) in rows() {
        assert_eq!(written(value), hex(encodings[0]), "{value:?}");
        for encoding in encodings {
            let bytes = hex(encoding);
            assert_eq!(read(&bytes), Ok(value), "{encoding}");
            seen.push(bytes[0]);
        }
    }
    let not_simple = [code::LIST8, code::LIST32, code::MAP8, code::MAP32, code::ARRAY8, code::ARRAY32];
    for code in CODES {
        assert!(seen.contains(&code) || not_simple.contains(&code), "0x{code:02x} has no row");
    }
}

#[test]
fn nothing_is_read_of_what_is_cut_short() {
    let list = hex("c00a04 40 5001 a10161 c00100");
    let map = hex("d1 0000000c 00000002 a3016b 7100000001");
    let array = hex("e00a02 70 00000001 0000000e");
    let described = hex("00 a10178 c0020140");
    let all = rows().into_iter().flat_map(|(_, encodings)| encodings.into_iter().map(hex));
    for bytes in all.chain([list, map, array, described]) {
        assert!(Reader::new(&bytes).value().is_ok(), "{bytes:?}");
        for end in 0..bytes.len() {
            assert_eq!(
                Reader::new(&bytes[..end]).value(),
                Err(DecodeError::Truncated),
                "{bytes:?} cut at {end}"
            );
            assert_eq!(
                Reader::new(&bytes[..end]).span(),
                Err(DecodeError::Truncated),
                "{bytes:?} cut at {end}"
            );
        }
    }
}

#[test]
fn a_code_that_no_type_has_is_refused() {
    for code in 1..=255 {
        let bytes = [&[code][..], &[0; 24]].concat();
        let is_known = CODES.contains(&code);
        match Reader::new(&bytes).value() {
            Err(DecodeError::UnknownCode(unknown)) => assert!(!is_known && unknown == code, "{code}"),
            other => assert!(is_known, "0x{code:02x}: {other:?}"),
        }
    }
}

// 1.6.2 boolean, 1.6.16 char, 1.6.20 string, 1.6.21 symbol

#[test]
fn values_that_a_type_does_not_have_are_refused() {
    let cases = [
        ("5602", DecodeError::Boolean(2)),
        ("7300110000", DecodeError::Char(0x11_0000)),
        ("730000d800", DecodeError::Char(0xd800)),
        ("a102c328", DecodeError::Utf8),
        ("b100000001ff", DecodeError::Utf8),
        ("a302c3a9", DecodeError::Ascii),
        ("b30000000180", DecodeError::Ascii),
    ];
    for (bytes, error) in cases {
        assert_eq!(read(&hex(bytes)), Err(error), "{bytes}");
        assert_eq!(error.condition(), Condition::DecodeError);
    }
    assert_eq!(Symbol::new("\u{e9}"), None);
}

#[test]
fn strings_are_written_small_up_to_255_bytes() {
    for (length, head) in [(255, "a1ff"), (256, "b100000100")] {
        let text: String = core::iter::repeat_n('x', length).collect();
        let bytes = written(&*text);
        assert!(bytes.starts_with(&hex(head)), "{length}");
        assert_eq!(read(&bytes), Ok(Value::String(&text)));
    }
}

// 1.6.22 list

#[test]
fn a_list_has_its_elements_in_order() {
    let mut builder = ListBuilder::new();
    builder.push(Value::Null).push(1_u32).push("a").push(List::EMPTY);
    let bytes = hex("c00804 40 5201 a10161 45");
    assert_eq!(written(builder.view()), bytes);
    let Ok(Value::List(list)) = read(&bytes) else { panic!("no list") };
    let elements: Vec<Value<'_>> = list.iter().collect();
    assert_eq!(elements, [Value::Null, 1_u32.into(), "a".into(), List::EMPTY.into()]);
    assert_eq!(list.len(), 4);
    assert_eq!(
        read(&hex("d0 0000000b 00000004 40 5201 a10161 45")),
        Ok(list.into()),
        "however it is encoded"
    );
}

#[test]
fn a_list_is_written_small_up_to_255_bytes_and_elements() {
    for (count, code) in [(254, code::LIST8), (255, code::LIST32), (256, code::LIST32)] {
        let mut builder = ListBuilder::new();
        (0..count).for_each(|_| {
            builder.push(Value::Null);
        });
        let bytes = written(builder.view());
        assert_eq!(bytes.first(), Some(&code), "{count}");
        assert_eq!(read(&bytes), Ok(builder.view().into()));
    }
}

#[test]
fn the_size_of_a_list_is_that_of_its_elements() {
    let cases = [
        "c0 01 01",
        "c0 02 02 41",
        "c0 02 00 41",
        "c0 03 01 40 40",
        "c0 02 01 50",
        "c1 03 02 40 50",
        "c1 03 00 40 40",
        "d0 00000004 01000000",
        "e0 03 02 50 01",
        "e0 04 01 50 01 02",
        "e0 04 02 a0 00 01",
    ];
    for bytes in cases {
        assert_eq!(read(&hex(bytes)), Err(DecodeError::Count), "{bytes}");
    }
    assert_eq!(read(&hex("c000")), Err(DecodeError::Truncated), "no room for the count");
    assert_eq!(read(&hex("d000000003000000")), Err(DecodeError::Truncated), "no room for the count");
}

// 1.6.23 map

#[test]
fn a_map_has_pairs() {
    let mut builder = MapBuilder::new();
    builder.push(Symbol::from_static("k"), 7_u64).push("k", false).push(Symbol::from_static("k"), 8_u64);
    let bytes = written(builder.view());
    assert_eq!(bytes, hex("c10f06 a3016b 5307 a1016b 42 a3016b 5308"));
    let Ok(Value::Map(map)) = read(&bytes) else { panic!("no map") };
    assert_eq!(map.len(), 3);
    assert_eq!(map.symbol("k"), Some(7_u64.into()), "the first counts");
    assert_eq!(map.get(&"k".into()), Some(false.into()), "a string is no symbol");
    assert_eq!(map.get(&"no".into()), None);
    assert_eq!(read(&hex("c1020140")), Err(DecodeError::OddMap));
    assert_eq!(read(&hex("d10000000700000003404040")), Err(DecodeError::OddMap));
}

// 1.6.24 array

#[test]
fn an_array_has_one_constructor_and_the_smallest_that_fits_all() {
    let symbols = [Symbol::from_static("a"), Symbol::from_static("bc")].map(Value::Symbol);
    let mut list = ListBuilder::new();
    list.push(1_u32);
    let cases: Vec<(Vec<Value<'_>>, &str)> = vec![
        (symbols.to_vec(), "e00702 a3 0161 026263"),
        (vec![0_u32.into(), 255_u32.into()], "e00402 52 00 ff"),
        (vec![0_u32.into(), 256_u32.into()], "e00a02 70 00000000 00000100"),
        (vec![1_u64.into()], "e00301 53 01"),
        (vec![(-1_i32).into(), 128_i32.into()], "e00a02 71 ffffffff 00000080"),
        (vec![true.into(), true.into()], "e00402 56 01 01"),
        (vec![true.into(), false.into()], "e00402 56 01 00"),
        (vec![Value::Null, Value::Null], "e00202 40"),
        (vec![List::EMPTY.into(), list.view().into()], "e00802 c0 0100 03015201"),
        (vec![], "e00200 40"),
    ];
    for (elements, bytes) in cases {
        let bytes = hex(bytes);
        assert_eq!(array(&elements), bytes, "{elements:?}");
        let Ok(Value::Array(read)) = read(&bytes) else { panic!("no array in {bytes:?}") };
        assert_eq!(read.iter().collect::<Vec<_>>(), elements);
        assert_eq!(read.len(), elements.len());
        assert_eq!(written(read), bytes);
    }
    let mixed = [Value::Null, 1_u32.into()];
    assert_eq!(write::put_array(&mut Vec::new(), mixed.into_iter()), Err(NotUniform));
    let mixed = [Value::from(1_u64), 1_u32.into()];
    assert_eq!(write::put_array(&mut Vec::new(), mixed.into_iter()), Err(NotUniform));
}

#[test]
fn arrays_of_everything_are_read() {
    for (value, encodings) in rows() {
        for encoding in encodings {
            let element = hex(encoding);
            let size = u8::try_from(element.len() * 2).unwrap();
            let bytes = [&[code::ARRAY8, size, 2, element[0]][..], &element[1..], &element[1..]].concat();
            let Ok(Value::Array(array)) = read(&bytes) else { panic!("no array of {encoding}") };
            assert_eq!(array.iter().collect::<Vec<_>>(), [value, value]);
        }
    }
    // Of arrays of ubytes.
    let bytes = hex("e00b 02 e0 04 02 50 01 02 03 01 50 03");
    let Ok(Value::Array(outer)) = read(&bytes) else { panic!("no array") };
    let inner: Vec<Vec<Value<'_>>> = outer
        .iter()
        .map(|value| if let Value::Array(array) = value { array.iter().collect() } else { vec![] })
        .collect();
    assert_eq!(inner, [vec![1_u8.into(), 2_u8.into()], vec![3_u8.into()]]);
    assert_eq!(written(outer), bytes);
}

#[test]
fn an_array_of_described_values_has_the_descriptor_once() {
    let bytes = hex("e008 02 00 53 75 a0 0161 00");
    let Ok(Value::Array(data)) = read(&bytes) else { panic!("no array") };
    let elements: Vec<Value<'_>> = data.iter().collect();
    let values: Vec<(Option<u64>, Value<'_>)> = elements
        .iter()
        .filter_map(|value| if let Value::Described(described) = value { Some(described) } else { None })
        .map(|described| (described.descriptor_code(), described.value()))
        .collect();
    assert_eq!(values, [(Some(0x75), (&b"a"[..]).into()), (Some(0x75), (&b""[..]).into())]);
    assert_eq!(array(&elements), bytes);
    assert_eq!(written(elements[0]), hex("00 53 75 a0 01 61"), "an element on its own");
    let other = read_described(&[0, 0x53, 0x76, 0xa0, 0]).into();
    assert_eq!(write::put_array(&mut Vec::new(), [elements[0], other].into_iter()), Err(NotUniform));
    // Two descriptors.
    let bytes = hex("e008 01 00 5301 00 5302 41");
    let Ok(Value::Array(twice)) = read(&bytes) else { panic!("no array") };
    let Some(Value::Described(outer)) = twice.iter().next() else { panic!("not described") };
    let Value::Described(inner) = outer.value() else { panic!("described once") };
    assert_eq!((outer.descriptor(), inner.descriptor()), (1_u64.into(), 2_u64.into()));
    assert_eq!(inner.value(), true.into());
    assert_eq!(write::put_array(&mut Vec::new(), twice.iter()), Err(NotUniform));
}

fn read_described(bytes: &[u8]) -> Described<'_> {
    match read(bytes) {
        Ok(Value::Described(described)) => described,
        other => panic!("not described: {other:?}"),
    }
}

// 1.2 Type encodings, 1.3 Type notation: described types

#[test]
fn a_descriptor_is_any_value() {
    let by_number = hex("00 53 24 45");
    let by_long_number = hex("00 80 0000000000000024 c00100");
    let by_name = [hex("00 a3 12"), b"amqp:accepted:list".to_vec(), hex("45")].concat();
    for bytes in [&by_number, &by_long_number, &by_name] {
        let described = read_described(bytes);
        assert_eq!(described.descriptor_code(), Some(0x24), "{bytes:?}");
        assert_eq!(described.value(), List::EMPTY.into());
        assert_eq!(written(described), *bytes, "kept as it came");
    }
    let other = [hex("00 a3 03"), b"foo".to_vec(), hex("40")].concat();
    assert_eq!(read_described(&other).descriptor_code(), None);
    // A descriptor that is a list, one that is described itself, and what is described twice.
    assert_eq!(read_described(&hex("00 c0020141 5001")).value(), 1_u8.into());
    let nested = hex("00 00 5301 5302 41");
    assert_eq!(read_described(&nested).descriptor(), read(&nested[1..6]).unwrap());
    let twice = hex("00 5301 00 5302 41");
    assert_eq!(read_described(&twice).value(), read(&twice[3..]).unwrap());
    assert_eq!(Reader::new(&hex("00 5301 00 5302 41 40")).span(), Ok(&hex("00 5301 00 5302 41")[..]));
}

// Limits that are our own

#[test]
fn values_nest_so_deep_and_no_deeper() {
    let in_lists = |depth: usize| {
        (0..depth).fold(vec![code::NULL], |inner, _| {
            let size = u32::try_from(inner.len() + 4).unwrap().to_be_bytes();
            [&[code::LIST32][..], &size, &[0, 0, 0, 1], &inner].concat()
        })
    };
    let in_arrays = |depth: usize| {
        (0..depth).fold(vec![code::UBYTE, 1], |inner, _| {
            let size = u32::try_from(inner.len() + 4).unwrap().to_be_bytes();
            [&[code::ARRAY32][..], &size, &[0, 0, 0, 1], &inner].concat()
        })
    };
    let in_maps = |depth: usize| {
        (0..depth).fold(vec![code::NULL], |inner, _| {
            let size = u32::try_from(inner.len() + 5).unwrap().to_be_bytes();
            [&[code::MAP32][..], &size, &[0, 0, 0, 2, code::NULL], &inner].concat()
        })
    };
    let described = |depth: usize| [hex("00 40").repeat(depth), vec![code::NULL]].concat();
    let descriptors = |depth: usize| [vec![0; depth], vec![code::NULL; depth + 1]].concat();
    let described_elements = |depth: usize| {
        let constructor = [hex("00 40").repeat(depth - 1), vec![code::UBYTE, 1]].concat();
        let size = u32::try_from(constructor.len() + 4).unwrap().to_be_bytes();
        [&[code::ARRAY32][..], &size, &[0, 0, 0, 1], &constructor].concat()
    };
    let shapes: [&dyn Fn(usize) -> Vec<u8>; 6] =
        [&in_lists, &in_arrays, &in_maps, &described, &descriptors, &described_elements];
    for (number, shape) in shapes.iter().enumerate() {
        assert!(read(&shape(VALUE_DEPTH_MAX)).is_ok(), "{number}");
        assert_eq!(read(&shape(VALUE_DEPTH_MAX + 1)), Err(DecodeError::TooDeep), "{number}");
    }
    assert_eq!(read(&in_lists(2000)), Err(DecodeError::TooDeep));
    assert_eq!(read(&descriptors(100_000)), Err(DecodeError::TooDeep));
    assert_eq!(DecodeError::TooDeep.condition(), Condition::ResourceLimitExceeded);
}

#[test]
fn elements_without_bytes_are_counted_over_all_arrays() {
    let nulls = |count: usize| {
        let count = u32::try_from(count).unwrap().to_be_bytes();
        [&[code::ARRAY32, 0, 0, 0, 5][..], &count, &[code::NULL]].concat()
    };
    assert!(read(&nulls(FREE_ELEMENTS_MAX)).is_ok());
    assert_eq!(read(&nulls(FREE_ELEMENTS_MAX + 1)), Err(DecodeError::TooManyElements));
    assert_eq!(read(&nulls(u32::MAX as usize)), Err(DecodeError::TooManyElements));
    let two = |one: usize, other: usize| {
        let content = [nulls(one), nulls(other)].concat();
        [&[code::LIST8, u8::try_from(content.len() + 1).unwrap(), 2][..], &content].concat()
    };
    assert!(read(&two(1, FREE_ELEMENTS_MAX - 1)).is_ok());
    assert_eq!(read(&two(1, FREE_ELEMENTS_MAX)), Err(DecodeError::TooManyElements));
    // Where elements have bytes, the count is that of the bytes.
    assert_eq!(read(&hex("f0 00000006 ffffffff 50 01")), Err(DecodeError::Count));
}

#[test]
fn an_empty_array_has_a_constructor_all_the_same() {
    assert!(read(&hex("e0020070")).is_ok());
    assert_eq!(read(&hex("e00100")), Err(DecodeError::Truncated));
    assert_eq!(read(&hex("e0020001")), Err(DecodeError::UnknownCode(1)));
    assert_eq!(read(&hex("e003007000")), Err(DecodeError::Count));
}

#[test]
fn what_is_no_number_is_kept_bit_by_bit() {
    for bytes in ["727fc00001", "82fff0000000000001"] {
        let bytes = hex(bytes);
        assert_eq!(written(read(&bytes).unwrap()), bytes);
    }
}

#[test]
fn an_array_that_was_borrowed_keeps_its_constructor() {
    let bytes = hex("f0 00000005 00000002 43");
    let Ok(Value::Array(zeros)) = read(&bytes) else { panic!("no array") };
    assert_eq!(written(zeros), hex("e00202 43"));
    assert_eq!(Value::Array(zeros), read(&hex("e00402 52 00 00")).unwrap(), "and is equal to another");
}
