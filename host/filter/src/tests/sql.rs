//! "AMQP Filter Expressions Version 1.0", section 6.

use super::{Fake, NOW_MS, hold, order, outcome, text};
use crate::{Dialect, Truth, Value};
use alloc::{format, string::String};

fn sql(rows: &[(&str, char)]) {
    hold(Dialect::AmqpSql, rows);
}

/// The tables of three-valued logic: each pair of operands, and what AND and OR make of them.
#[test]
fn logic_has_three_values() {
    let operand = |truth| match truth {
        'T' => "paid",
        'F' => "gift",
        _ => "absent",
    };
    for (left, right, and, or) in [
        ('T', 'T', 'T', 'T'),
        ('T', 'F', 'F', 'T'),
        ('T', '?', '?', 'T'),
        ('F', 'T', 'F', 'T'),
        ('F', 'F', 'F', 'F'),
        ('F', '?', 'F', '?'),
        ('?', 'T', '?', 'T'),
        ('?', 'F', 'F', '?'),
        ('?', '?', '?', '?'),
    ] {
        let (left, right) = (operand(left), operand(right));
        sql(&[(&format!("{left} AND {right}"), and), (&format!("{left} OR {right}"), or)]);
    }
    sql(&[("NOT paid", 'F'), ("NOT gift", 'T'), ("NOT absent", '?'), ("NOT NOT paid", 'T')]);
    // What is no truth value is unknown where one is needed.
    sql(&[("weight OR paid", 'T'), ("weight OR gift", '?'), ("NOT weight", '?'), ("country", '?')]);
}

#[test]
fn operators_bind_as_in_sql() {
    sql(&[
        ("NOT gift AND gift", 'F'),
        ("NOT (gift AND gift)", 'T'),
        ("paid OR paid AND gift", 'T'),
        ("(paid OR paid) AND gift", 'F'),
        ("NOT country = 'US' AND weight > 3", 'T'),
        ("weight + 2 * 3 = 11", 'T'),
        ("(weight + 2) * 3 = 21", 'T'),
        ("weight - 2 - 1 = 2", 'T'),
        ("100 / 10 / 5 = 2", 'T'),
        ("17 % 10 % 4 = 3", 'T'),
        ("-weight + 6 = 1", 'T'),
        ("6 - -weight = 11", 'T'),
        ("6 - + - weight = 11", 'T'),
        ("-(weight - 6) = 1", 'T'),
    ]);
}

#[test]
fn like_values_compare() {
    sql(&[
        ("country = 'UK'", 'T'),
        ("country <> 'UK'", 'F'),
        ("country != 'US'", 'T'),
        ("country < 'US'", 'T'),
        ("country >= 'UK'", 'T'),
        ("weight = 5", 'T'),
        ("weight = 5.0", 'T'),
        ("weight < 5.0000001", 'T'),
        ("price > 10", 'T'),
        ("price <= 10", 'F'),
        ("paid = TRUE", 'T'),
        ("paid <> gift", 'T'),
        // There is no order of truth values.
        ("paid > gift", 'F'),
        ("paid >= paid", 'F'),
        // Neither number is rounded.
        ("big = 9007199254740993", 'T'),
        ("big = 9007199254740992.0", 'F'),
        ("big > 9007199254740992.0", 'T'),
        ("18446744073709551615 > 1.8446744073709550E19", 'T'),
        ("nan = nan", 'F'),
        ("nan <> nan", 'T'),
        ("nan < 1", 'F'),
        ("INF > 1.0E308", 'T'),
        ("-INF < weight", 'T'),
        ("NAN <> 1", 'T'),
    ]);
}

#[test]
fn values_that_are_not_alike_are_not_equal() {
    sql(&[
        ("country = 5", 'F'),
        ("country <> 5", 'T'),
        ("country > 5", 'F'),
        ("NOT country > 5", 'T'),
        ("weight = '5'", 'F'),
        ("paid = 1", 'F'),
        ("paid = 'TRUE'", 'F'),
        ("list = 'UK'", 'F'),
        ("list = list", 'F'),
        ("data = 57005", 'F'),
    ]);
}

#[test]
fn what_is_absent_is_unknown() {
    sql(&[
        ("absent = 1", '?'),
        ("absent <> 1", '?'),
        ("absent = absent", '?'),
        ("NOT absent = 1", '?'),
        ("absent + 1 > 0", '?'),
        ("-absent = 0", '?'),
        ("absent IS NULL", 'T'),
        ("absent IS NOT NULL", 'F'),
        ("country IS NULL", 'F'),
        ("country is not null", 'T'),
        ("list IS NULL", 'F'),
        ("EXISTS(country)", 'T'),
        ("exists ( absent )", 'F'),
        ("NOT EXISTS(p.reply_to)", 'T'),
    ]);
}

#[test]
fn arithmetic_is_exact_where_it_can_be() {
    sql(&[
        ("weight / 2 = 2.5", 'T'),
        ("100 / 10 = 10", 'T'),
        ("9007199254740993 / 1 = 9007199254740993", 'T'),
        ("big + big = 18014398509481986", 'T'),
        ("18446744073709551615 * 18446744073709551615 > 0", 'T'),
        ("170141183460469231731687303715884105727 + 1 > 1.0E38", 'T'),
        ("price * 2 = 21", 'T'),
        ("price % 4 = 2.5", 'T'),
        ("-7 % 5 = -2", 'T'),
        ("7 % -5 = 2", 'T'),
        ("weight / 0 = 1", '?'),
        ("weight / 0.0 = 1", '?'),
        ("weight % zero = 0", '?'),
        ("weight % 0.0 = 0", '?'),
        ("country + 1 = 1", '?'),
        ("paid + paid = 2", '?'),
        ("+country = 'UK'", '?'),
        ("-data = 1", '?'),
        ("0x01 + 0x02 = 0x03", '?'),
    ]);
}

#[test]
fn patterns_match_whole_texts() {
    let message = |value: &str| Fake::default().app("k", text(value));
    for (pattern, value, fits) in [
        ("", "", true),
        ("", "a", false),
        ("%", "", true),
        ("%%", "abc", true),
        ("_", "", false),
        ("_", "🥕", true),
        ("a", "a", true),
        ("a", "A", false),
        ("a%", "abc", true),
        ("a%", "ba", false),
        ("%c", "abc", true),
        ("%c", "abcd", false),
        ("a%a", "a", false),
        ("a%a", "aa", true),
        ("%b%", "abc", true),
        ("%b%", "ac", false),
        ("%ab%ab%", "abxab", true),
        ("%ab%ab%", "abab", true),
        ("%ab%ab%", "aba", false),
        ("a_c", "abc", true),
        ("a_c", "ac", false),
        ("%_b_%", "abc", true),
        ("%_b_%", "bc", false),
        ("_%_", "a", false),
        ("_%_", "ab", true),
        ("%a_%b", "xaxyb", true),
        ("%a_%b", "ab", false),
        ("___🥕%", "car🥕rot", true),
        ("%aab", "aaab", true),
        ("%a_b%", "aaxb", true),
        (".*", "abc", false),
    ] {
        let expression = format!("k LIKE '{pattern}'");
        let expected = if fits { Truth::True } else { Truth::False };
        let message = message(value);
        assert_eq!(outcome(&expression, Dialect::AmqpSql, &message), expected, "{value:?} {expression}");
        let expected = if fits { Truth::False } else { Truth::True };
        let expression = format!("k NOT LIKE '{pattern}'");
        assert_eq!(outcome(&expression, Dialect::AmqpSql, &message), expected, "{value:?} {expression}");
    }
    sql(&[
        ("name LIKE '%100!%!_%' ESCAPE '!'", 'T'),
        ("name LIKE '%100!%x%' ESCAPE '!'", 'F'),
        ("name LIKE '%100%%' ESCAPE '%'", 'F'),
        ("country LIKE '🥕U🥕K' ESCAPE '🥕'", 'T'),
        ("name LIKE 'O''Hara%'", 'T'),
        ("name LIKE \"O'Hara & \"\"Sons\"\"%\"", 'T'),
        ("absent LIKE '%'", '?'),
        ("absent NOT LIKE '%'", '?'),
        ("weight LIKE '5'", '?'),
        ("raw LIKE '%'", '?'),
        ("p.user_id LIKE 'gue%'", 'T'),
        ("UPPER(country) LIKE 'U_'", 'T'),
    ]);
}

#[test]
fn in_and_between_are_the_comparisons_that_they_stand_for() {
    sql(&[
        ("country IN ('US', 'UK')", 'T'),
        ("country NOT IN ('US', 'UK')", 'F'),
        ("country IN ('US')", 'F'),
        ("country NOT IN ('US')", 'T'),
        ("weight IN (4.0 + 1, 'x')", 'T'),
        ("'UK' IN (absent, country)", 'T'),
        ("'US' IN (absent, country)", '?'),
        ("'US' NOT IN (absent, country)", '?'),
        ("absent IN ('UK')", '?'),
        ("absent NOT IN ('UK')", '?'),
        ("data IN (0xCAFE, 0xDEAD)", 'T'),
        ("weight BETWEEN 5 AND 7", 'T'),
        ("weight BETWEEN 1 AND 5.0 AND paid", 'T'),
        ("weight NOT BETWEEN 1 AND 4", 'T'),
        ("weight BETWEEN 7 AND 5", 'F'),
        ("weight BETWEEN absent AND 4", 'F'),
        ("weight BETWEEN 6 AND absent", 'F'),
        ("weight BETWEEN 5 AND absent", '?'),
        ("absent BETWEEN 1 AND 2", '?'),
        ("country BETWEEN 'TA' AND 'UZ'", 'T'),
    ]);
    // It is no word of this language, so it is a name where a name can be.
    let message = Fake::default().app("between", Value::Integer(5));
    assert_eq!(outcome("between BETWEEN between AND 7", Dialect::AmqpSql, &message), Truth::True);
}

#[test]
fn fields_are_named_by_section() {
    sql(&[
        ("header.priority = 7 AND h.priority = 7", 'T'),
        ("properties.subject = 'created' AND p.subject = 'created'", 'T'),
        ("application_properties.country = 'UK' AND a.country = country", 'T'),
        ("application-properties.country = 'UK'", 'T'),
        ("m.hops = 2 AND message_annotations.hops = 2 AND message-annotations.hops = 2", 'T'),
        ("m.[x-opt-region] = 'eu'", 'T'),
        ("delivery_annotations.trace AND delivery-annotations.trace AND d.trace", 'T'),
        ("footer.crc = 0x0102 AND f.crc = 0x0102", 'T'),
        ("p.message_id = 'order-17' AND p.[message-id] = 'order-17'", 'T'),
        ("p.user_id = 'guest' AND p.user_id = 0x6775657374", 'T'),
        ("p.correlation_id = 0xABABABABABABABABABABABABABABABAB", 'T'),
        ("p.content_type LIKE '%/json'", 'T'),
        ("p.group_sequence BETWEEN 1 AND 3", 'T'),
        ("p.reply_to IS NULL AND p.to IS NULL AND p.reply_to_group_id IS NULL", 'T'),
        ("[country] = 'UK' AND a.[country] = 'UK'", 'T'),
        ("[with space] AND [a[[b]]c] AND [p.subject] AND [not]", 'T'),
        ("a.not", 'T'),
        ("COUNTRY IS NULL", 'T'),
        ("weight-p.group_sequence=2", 'T'),
    ]);
}

#[test]
fn a_header_that_says_nothing_has_its_defaults() {
    let bare = Fake::default();
    for (expression, expected) in [
        ("h.priority = 4", Truth::True),
        ("h.durable", Truth::False),
        ("h.first_acquirer", Truth::False),
        ("h.delivery_count = 0", Truth::True),
        ("h.ttl IS NULL", Truth::True),
    ] {
        assert_eq!(outcome(expression, Dialect::AmqpSql, &bare), expected, "{expression}");
    }
}

#[test]
fn functions_take_texts_apart() {
    sql(&[
        ("LOWER(country) = 'uk'", 'T'),
        ("upper('Straße') = 'STRASSE'", 'T'),
        ("LEFT(p.message_id, 5) = 'order'", 'T'),
        ("LEFT('🥕ab', 1) = '🥕'", 'T'),
        ("LEFT('ab', 0) = ''", 'T'),
        ("LEFT('ab', -1) = ''", 'T'),
        ("LEFT('ab', 99) = 'ab'", 'T'),
        ("RIGHT(p.message_id, 2) = '17'", 'T'),
        ("RIGHT('ab', 99) = 'ab'", 'T'),
        ("RIGHT('ab', 0) = ''", 'T'),
        ("SUBSTRING('abcdef', 2, 3) = 'bcd'", 'T'),
        ("SUBSTRING('abcdef', 5) = 'ef'", 'T'),
        // What lies outside is not there: of the four characters from -1 on, two.
        ("SUBSTRING('abcdef', -1, 4) = 'ab'", 'T'),
        ("SUBSTRING('abcdef', 9) = ''", 'T'),
        ("SUBSTRING('abcdef', 2, -3) = ''", 'T'),
        ("SUBSTRING(UPPER(country), 2) = 'K'", 'T'),
        ("LOWER(absent) = 'uk'", '?'),
        ("LOWER(weight) = '5'", '?'),
        ("LEFT(country, absent) = 'U'", '?'),
        ("LEFT(country, 1.0) = 'U'", '?'),
        ("SUBSTRING(country, 1, paid) = 'U'", '?'),
    ]);
}

#[test]
fn time_is_what_whoever_asks_says() {
    assert_eq!(NOW_MS, 1_795_977_000_000);
    sql(&[
        ("UTC() = 1795977000000", 'T'),
        ("utc ( ) - p.creation_time = 60000", 'T'),
        ("p.creation_time > DATE('2026-11-29T18:28:59Z')", 'T'),
        ("DATE('2026-11-29T18:30:00Z') = UTC()", 'T'),
        ("DATE(country) = 1", '?'),
        ("DATE(absent) = 1", '?'),
    ]);
}

#[test]
fn space_is_needed_only_between_words() {
    sql(&[("country='UK'AND weight=5", 'T'), (" \t\x0c\r\ncountry\n=\r'UK' ", 'T'), ("(((paid)))", 'T')]);
    let order = order();
    let long = (0..49).fold(String::from("gift"), |text, _| text + " OR gift") + " OR paid";
    assert_eq!(outcome(&long, Dialect::AmqpSql, &order), Truth::True);
}

#[test]
fn constants_are_numbers_strings_and_binaries() {
    sql(&[
        ("1.2E3 = 1200 AND 1.2E+3 = 1200 AND 1200.0E-3 = 1.2 AND 5E2 = 500 AND .5 = 0.5 AND 5. = 5", 'T'),
        ("017 = 17", 'T'),
        ("'it''s' = \"it's\"", 'T'),
        ("'' = empty", 'T'),
        ("0xdeAD = data", 'T'),
        ("true AND True AND NOT FALSE", 'T'),
    ]);
}
