//! What is no expression is refused with its place and what was expected.

use crate::{Dialect, Expression};
use alloc::string::ToString;

fn refused(dialect: Dialect, rows: &[(&str, &str)]) {
    for (text, expected) in rows {
        match Expression::compile(text, dialect) {
            Ok(_) => panic!("{text} is taken"),
            Err(error) => assert_eq!(error.to_string(), *expected, "{text}"),
        }
    }
}

#[test]
fn errors_say_where_and_what_was_expected() {
    refused(
        Dialect::AmqpSql,
        &[
            ("", "at character 1: expected a value, found the end"),
            ("a =", "at character 4: expected a value, found the end"),
            ("AND NOT", "at character 1: expected a value, found 'AND'"),
            ("a = 1 b", "at character 7: expected an operator or the end, found 'b'"),
            ("a = 1 = 2", "at character 7: expected an operator or the end, found '='"),
            ("(a = 1", "at character 7: expected an operator or ')', found the end"),
            ("a = 1)", "at character 6: expected an operator or the end, found ')'"),
            ("🥕", "at character 1: nothing begins with '🥕'"),
            ("'🥕' = ;", "at character 7: nothing begins with ';'"),
            ("a = NOT b", "at character 5: expected a value, found 'NOT'"),
            ("a NOT b", "at character 7: expected LIKE, IN or BETWEEN, found 'b'"),
            ("a IS b", "at character 6: expected NULL, found 'b'"),
            ("1 IS NULL", "at character 1: expected a field before IS, found something else"),
            ("a + 1 IS NOT NULL", "at character 1: expected a field before IS, found something else"),
            ("a LIKE b", "at character 8: expected a string, found 'b'"),
            ("a LIKE 0x48", "at character 8: expected a string, found '0x48'"),
            ("a LIKE 'x' ESCAPE 'yz'", "at character 19: the escape character is one character"),
            ("a LIKE 'x' ESCAPE ''", "at character 19: the escape character is one character"),
            ("a LIKE 'x!' ESCAPE '!'", "at character 8: a pattern ends with its escape character"),
            ("a IN 1", "at character 6: expected (, found '1'"),
            ("a IN ()", "at character 7: expected a value, found ')'"),
            ("a IN (1 2)", "at character 9: expected ',' or ')', found '2'"),
            ("a IN (1, b = 2)", "at character 12: expected ',' or ')', found '='"),
            ("a BETWEEN 1", "at character 12: expected AND, found the end"),
            ("a = 'open", "at character 5: the string that begins here does not end"),
            ("[open", "at character 1: the identifier that begins here does not end"),
            ("[a[b]", "at character 3: nothing begins with '['"),
            ("[a\n]", "at character 3: nothing begins with '\\n'"),
            (
                "upper",
                "at character 1: upper is a word of the language; as an identifier it is written [upper]",
            ),
            (
                "a = 1 AND Date > 1",
                "at character 11: Date is a word of the language; as an identifier it is written [Date]",
            ),
        ],
    );
    refused(
        Dialect::AmqpSql,
        &[
            ("UTC(1)", "at character 5: UTC takes no arguments"),
            ("a = LEFT(b)", "at character 10: LEFT takes two arguments"),
            ("SUBSTRING(b, 1, 2, 3) = a", "at character 11: SUBSTRING takes two or three arguments"),
            ("LOWER(a, b)", "at character 7: LOWER takes one argument"),
            ("LOWER(a b)", "at character 9: expected ',' or ')', found 'b'"),
            ("EXISTS(1)", "at character 8: expected a field, found '1'"),
            (
                "EXISTS(left)",
                "at character 8: left is a word of the language; as an identifier it is written [left]",
            ),
            (
                "Exists = 1",
                "at character 1: Exists is a word of the language; as an identifier it is written [Exists]",
            ),
            (
                "DATE('tomorrow') > 1",
                "at character 6: expected a date like 2026-11-29T18:30:00Z, found 'tomorrow'",
            ),
            ("p.colour = 1", "at character 1: there is no field p.colour"),
            ("header.age = 1", "at character 1: there is no field header.age"),
            (
                "b.c = 1",
                "at character 1: there is no section b; expected header, delivery_annotations, \
             message_annotations, properties, application_properties or footer",
            ),
            ("p. subject = 1", "at character 3: expected the name of a field, found ' '"),
            ("p.", "at character 3: expected the name of a field, found the end"),
            ("1mykey = 1", "at character 1: letters follow a number without a space"),
            ("a < 10AND b", "at character 5: letters follow a number without a space"),
            ("a = 0x123", "at character 7: a binary is 0x and pairs of hexadecimal digits"),
            ("a = 0x", "at character 7: a binary is 0x and pairs of hexadecimal digits"),
            ("a = 0xAG", "at character 7: a binary is 0x and pairs of hexadecimal digits"),
            ("a = 1.0E999", "at character 5: the number is too large"),
            ("a = 170141183460469231731687303715884105728", "at character 5: the number is too large"),
            ("_key = 1", "at character 1: nothing begins with '_'"),
            ("$key = 1", "at character 1: nothing begins with '$'"),
        ],
    );
}

#[test]
fn selectors_have_no_sections_functions_and_binaries() {
    refused(
        Dialect::JmsSelector,
        &[
            ("JMSColour = 1", "at character 1: there is no field JMSColour"),
            ("JMSReplyTo = 'q'", "at character 1: there is no field JMSReplyTo"),
            ("a = \"b\"", "at character 5: nothing begins with '\"'"),
            ("[a] = 1", "at character 1: nothing begins with '['"),
            ("a = 0xDEADg", "at character 5: letters follow a number without a space"),
            ("a = 0x", "at character 7: there is no number that can be read here"),
            ("a = 09", "at character 6: there is no number that can be read here"),
            ("LOWER(a) = 'b'", "at character 6: expected an operator or the end, found '('"),
            ("between = 1", "at character 1: expected a value, found 'between'"),
            ("null = 1", "at character 1: expected a value, found 'null'"),
        ],
    );
}
