//! Markdown, as far as it is needed: fenced blocks with their languages, and code within lines.

/// A fenced block.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Block {
    /// Where it begins, from 1 on.
    pub(crate) line: usize,
    /// What stands behind the fence.
    pub(crate) language: String,
    /// Its lines, without what the fence is indented by.
    pub(crate) text: String,
}

/// The blocks of a document, and its other lines.
///
/// # Errors
/// A block that has no end.
pub(crate) fn split(document: &str) -> Result<(Vec<Block>, String), String> {
    let (mut blocks, mut prose) = (Vec::new(), String::new());
    let mut open: Option<(Block, usize)> = None;
    for (number, line) in (1..).zip(document.lines()) {
        let indent = line.len() - line.trim_start().len();
        let fence = line.trim_start().strip_prefix("```");
        match (&mut open, fence) {
            (None, Some(language)) => {
                let language = language.trim().to_owned();
                open = Some((Block { line: number, language, text: String::new() }, indent));
            }
            (None, None) => {
                prose.push_str(line);
                prose.push('\n');
            }
            (Some(_), Some("")) => blocks.extend(open.take().map(|(block, _)| block)),
            (Some((block, indent)), _) => {
                block.text.push_str(line.get(*indent..).unwrap_or_default());
                block.text.push('\n');
            }
        }
    }
    match open {
        Some((block, _)) => Err(format!("line {}: the block has no end", block.line)),
        None => Ok((blocks, prose)),
    }
}

/// The code within lines, each piece on one line.
pub(crate) fn inline_code(prose: &str) -> Vec<String> {
    let code = prose.split('`').skip(1).step_by(2);
    code.map(|code| code.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

/// The commands of a block: of a session those after `$`, else all lines. One that ends in a backslash goes
/// on in the next line; what stands behind `#` is no part of it.
pub(crate) fn commands(text: &str) -> Vec<String> {
    let joined = text.replace("\\\n", " ");
    let is_session = joined.lines().any(|line| line.starts_with("$ "));
    let of_line = |line: &str| {
        let command = if is_session { line.strip_prefix("$ ")? } else { line };
        let command = command.split(" #").next().unwrap_or_default().trim();
        let command = if command.starts_with('#') { "" } else { command };
        (!command.is_empty()).then(|| command.split_whitespace().collect::<Vec<_>>().join(" "))
    };
    joined.lines().filter_map(of_line).collect()
}

#[test]
fn blocks_commands_and_code_are_found() {
    let document =
        "a `b\nc` d\n\n   ```sh\n   one \\\n     two   # three\n   ```\n```text\n$ x `y`\nz\n```\n`e`\n";
    let (blocks, prose) = split(document).unwrap();
    assert_eq!(
        blocks.iter().map(|block| (block.line, block.language.as_str())).collect::<Vec<_>>(),
        [(4, "sh"), (8, "text")]
    );
    assert_eq!(commands(&blocks[0].text), ["one two"]);
    assert_eq!(commands(&blocks[1].text), ["x `y`"]);
    assert_eq!(inline_code(&prose), ["b c", "e"]);
    assert!(split("```sh\na").unwrap_err().contains("line 1"));
}
