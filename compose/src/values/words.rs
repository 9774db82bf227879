//! Command lines as a shell splits them, without the shell.

/// Splits at white space; quotes and backslashes work as in a POSIX shell, variables and globs do not.
pub(crate) fn split_words(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' | '\n' | '\r' => words.extend(word.take()),
            '\'' => single_quoted(&mut chars, word.get_or_insert_default())?,
            '"' => double_quoted(&mut chars, word.get_or_insert_default())?,
            '\\' => match chars.next() {
                Some('\n') => (),
                Some(next) => word.get_or_insert_default().push(next),
                None => return Err("a backslash stands at the end".to_owned()),
            },
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    Ok(words)
}

fn single_quoted(chars: &mut std::str::Chars<'_>, word: &mut String) -> Result<(), String> {
    for c in chars {
        match c {
            '\'' => return Ok(()),
            other => word.push(other),
        }
    }
    Err("a single quote is not closed".to_owned())
}

fn double_quoted(chars: &mut std::str::Chars<'_>, word: &mut String) -> Result<(), String> {
    while let Some(c) = chars.next() {
        match c {
            '"' => return Ok(()),
            '\\' => match chars.next() {
                Some('\n') => (),
                Some(next @ ('"' | '\\' | '$' | '`')) => word.push(next),
                Some(next) => word.extend(['\\', next]),
                None => break,
            },
            other => word.push(other),
        }
    }
    Err("a double quote is not closed".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_split_as_in_a_shell() {
        let split = |text: &str| split_words(text).unwrap();
        assert_eq!(split("redis-server  --save 60 1"), ["redis-server", "--save", "60", "1"]);
        assert_eq!(split(r#"sh -c "echo \"$HI\" 'x'""#), ["sh", "-c", r#"echo "$HI" 'x'"#]);
        assert_eq!(split(r"a\ b 'c d'e ''"), ["a b", "c de", ""]);
        assert_eq!(split(" \n"), Vec::<String>::new());
        for bad in ["'", "\"a", "a\\"] {
            assert!(split_words(bad).is_err(), "{bad}");
        }
    }
}
