//! Compilers that are none, code from the cache, and the end. What a real child does within its
//! limits is tested with the real program, in `tests/reload`.

use super::*;
use crate::testing::Scratch;
use std::fs;

fn component() -> Vec<u8> {
    wat::parse_str("(component (core module (func (export \"f\"))))").unwrap()
}

fn child(program: &str) -> CompileIn {
    CompileIn::Child { executable: PathBuf::from(program), limits: CompileLimits::default() }
}

fn compiler(compile_in: CompileIn, cache: Option<&Path>) -> Compiler {
    let engines = Arc::new(Engines::new().unwrap());
    Compiler::new(engines, compile_in, cache.map(|path| (path, 1 << 20)))
}

fn compile(compiler: &Compiler) -> Result<Component, CompileError> {
    let bytes = component();
    compiler.compile(CodeStrategy::Cranelift, Digest::of(&bytes), &bytes)
}

fn cached(compiler: &Compiler) -> bool {
    compiler.cached(CodeStrategy::Cranelift, Digest::of(&component())).is_some()
}

#[test]
fn a_program_that_is_no_compiler_is_told_apart() {
    let error = |program| compile(&compiler(child(program), None)).err();
    assert!(matches!(error("/nonexistent/program"), Some(CompileError::NotStarted { .. })));
    assert!(matches!(error("/bin/true"), Some(CompileError::NoCode { .. })));
    assert!(matches!(error("/bin/false"), Some(CompileError::Failed { code: 1, .. })));
}

#[test]
fn nothing_is_compiled_after_the_stop() {
    let compiler = compiler(child("/bin/cat"), None);
    compiler.stop();
    assert_eq!(compile(&compiler).err(), Some(CompileError::Stopped));
}

#[test]
fn code_is_compiled_once_also_over_a_restart() {
    let scratch = Scratch::new();
    let cache = scratch.path().join("cache");
    let first = compiler(CompileIn::ThisProcess, Some(&cache));
    assert!(!cached(&first));
    compile(&first).unwrap();
    // This one could not compile anything.
    compile(&compiler(child("/nonexistent/program"), Some(&cache))).unwrap();
}

#[test]
fn code_that_somebody_changed_is_compiled_again() {
    let scratch = Scratch::new();
    let cache = scratch.path().join("cache");
    let compiler = compiler(CompileIn::ThisProcess, Some(&cache));
    compile(&compiler).unwrap();
    let mut files = fs::read_dir(&cache).unwrap().map(|entry| entry.unwrap().path());
    let file = files.find(|path| path.extension().is_some_and(|e| e == "code")).unwrap();
    let mut code = fs::read(&file).unwrap();
    *code.last_mut().unwrap() ^= 1;
    fs::write(&file, &code).unwrap();
    assert!(!cached(&compiler));
    compile(&compiler).unwrap();
    assert!(cached(&compiler));
}

#[test]
fn a_cache_that_others_can_reach_is_not_used() {
    let scratch = Scratch::new();
    fs::create_dir(scratch.path().join("cache")).unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    fs::set_permissions(scratch.path().join("cache"), open).unwrap();
    let compiler = compiler(CompileIn::ThisProcess, Some(&scratch.path().join("cache")));
    compile(&compiler).unwrap();
    assert!(!cached(&compiler));
}
