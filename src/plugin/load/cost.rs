//! What it costs to compile a component, judged before it is done.
//!
//! A compiler's time grows faster than the size of a function, its memory with their number,
//! and it cannot be interrupted. A small file could so keep every processor busy for hours,
//! beside the rooms that the server serves.

use wasmparser::{Parser, Payload};

use crate::plugin::limits;

/// Says no to code that takes too much to compile. What is not understood is left to the
/// compiler, which says what is wrong with it.
pub(super) fn check(bytes: &[u8]) -> Result<(), String> {
    let (mut functions, mut code) = (0_u64, 0_u64);
    for payload in Parser::new(0).parse_all(bytes) {
        match payload {
            Ok(Payload::CodeSectionStart { count, size, .. }) => {
                functions += u64::from(count);
                code += u64::from(size);
            }
            Ok(Payload::CodeSectionEntry(body)) => {
                within("a function of", body.range().len() as u64, limits::FUNCTION)?;
            }
            Ok(_) => {}
            Err(_) => break,
        }
        if functions > limits::FUNCTIONS {
            let limit = limits::FUNCTIONS;
            return Err(format!("has more than {limit} functions, the limit"));
        }
        within("code of", code, limits::FUNCTIONS_CODE)?;
    }
    Ok(())
}

fn within(what: &str, size: u64, limit: u64) -> Result<(), String> {
    if size > limit {
        return Err(format!("has {what} {size} bytes; {limit} are the limit"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A component with a core module of these functions, each so many bytes of code.
    fn component(functions: usize, bytes: usize) -> Vec<u8> {
        let body = format!("(func {})", "nop ".repeat(bytes));
        let text = format!("(component (core module {}))", body.repeat(functions));
        wat::parse_str(text).unwrap()
    }

    #[test]
    fn what_compilers_make_is_accepted() {
        assert_eq!(check(&component(1000, 100)), Ok(()));
        assert_eq!(check(&component(1, 200_000)), Ok(()));
    }

    #[test]
    fn a_function_that_takes_hours_is_not_compiled() {
        let size = usize::try_from(limits::FUNCTION).unwrap();
        let problem = check(&component(1, size + 1)).unwrap_err();
        assert!(problem.starts_with("has a function of"), "{problem}");
    }

    #[test]
    fn functions_without_number_are_not_compiled() {
        let count = usize::try_from(limits::FUNCTIONS).unwrap();
        assert_eq!(check(&component(count, 0)), Ok(()));
        let problem = check(&component(count + 1, 0)).unwrap_err();
        assert_eq!(problem, "has more than 100000 functions, the limit");
    }

    #[test]
    fn all_code_together_is_limited() {
        let size = usize::try_from(limits::FUNCTION).unwrap() - 1000;
        let one = component(1, size);
        let count = usize::try_from(limits::FUNCTIONS_CODE).unwrap() / size + 1;
        // Modules in a row, in one component.
        let module = one.get(8..).unwrap();
        let mut bytes = one.get(..8).unwrap().to_vec();
        for _ in 0..count {
            bytes.extend_from_slice(module);
        }
        let problem = check(&bytes).unwrap_err();
        assert!(problem.starts_with("has code of"), "{problem}");
    }

    #[test]
    fn what_is_not_understood_is_left_to_the_compiler() {
        assert_eq!(check(b"\0asm\x0d\0\x01\0\xff\xff"), Ok(()));
        assert_eq!(check(b""), Ok(()));
    }
}
