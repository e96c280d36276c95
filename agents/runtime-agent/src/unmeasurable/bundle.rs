//! Whether a script of JavaScript holds modules that were files before: the text that bundlers and minifiers leave. Pure.
//! It must never take what people write, or what TypeScript and Babel compile file by file, for a bundle.

use memchr::memmem;

/// What a script's text says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Made {
    /// By this bundler.
    By(&'static str),
    /// Written without blanks, as bundlers do, of which no other mark is there.
    Minified,
    /// By nobody known, but it needs no other file: all that it runs may be in it.
    Alone,
    /// One file of many.
    AsOneOfMany,
}

/// Texts that only one tool writes.
const MARKS: &[(&str, &str)] = &[
    ("webpackBootstrap", "webpack"),
    ("__webpack_require__", "webpack"),
    ("__webpack_modules__", "webpack"),
    ("__nccwpck_require__", "ncc"),
    // Chunks, which have no bootstrap of their own.
    ("exports.modules=", "webpack"),
    ("exports.modules = {", "webpack"),
    ("webpackChunk", "webpack"),
    ("/*! For license information please see ", "webpack"),
    ("__turbopack_context__", "Turbopack"),
    ("[turbopack]_runtime.js", "Turbopack"),
    ("__commonJS = (cb", "esbuild"),
    ("__commonJS=(", "esbuild"),
    // The same helper minified: `var s=(r,e)=>()=>(e||r((e={exports:{}}).exports,e),e.exports)`.
    ("={exports:{}}).exports,", "esbuild"),
    ("function getDefaultExportFromCjs", "rollup"),
    ("parcelRequire", "Parcel"),
    ("// @bun", "Bun"),
];
/// Fewest bytes of code that can look minified: an application with the smallest of packages has as many.
const MINIFIED_MIN_BYTES: usize = 200;
/// Minified code has a longer line than this, in bytes: esbuild and terser break lines only if told to.
const MINIFIED_LINE_BYTES: usize = 150;
/// Minified code has fewer blanks that it could do without than one of so many bytes. Of 390 minified bundles of one
/// package each (178 bytes to 20 KB; esbuild, rollup with terser) none had more than 0.0044; people who write lines of
/// 180 bytes leave 0.017 and more, as `=>{ return`.
const MINIFIED_BYTES_PER_NEEDLESS_BLANK: usize = 120;
/// Larger code is minified too if it has fewer blanks of any kind than one of so many bytes: where regular expressions with
/// quotes confuse what is a string, needless blanks are miscounted. Of 50 bundles of five bundlers none had more than
/// 0.049, and none that was not minified less than 0.109; of 8,000 files of packages a handful of tables lay between.
const MINIFIED_BYTES_PER_BLANK: usize = 20;
/// Fewest bytes of this larger code: dense lines of one's own are fewer.
const LARGE_MIN_BYTES: usize = 8 << 10;
/// Code has more parentheses than one of so many bytes; tables and regular expressions have fewer.
const CODE_BYTES_PER_PARENTHESIS: usize = 90;
/// Names that were told apart by a number, as rollup does when it joins modules, before they count as its mark.
const NUMBERED_NAMES_MIN: usize = 2;
/// Fewest bytes of a script that may be an application with its packages.
const ALONE_MIN_BYTES: usize = 4 << 10;

/// Judges a script by its begin and its end; `end` is empty if the begin is all of it.
pub(super) fn judge(begin: &[u8], end: &[u8]) -> Made {
    let has = |bytes: &[u8], mark: &str| memmem::find(bytes, mark.as_bytes()).is_some();
    if let Some((_, bundler)) = MARKS.iter().find(|(mark, _)| has(begin, mark) || has(end, mark)) {
        return Made::By(bundler);
    }
    if begin.split(|byte| *byte == b'\n').any(is_place_of_module) {
        return Made::By("esbuild or Rolldown");
    }
    if has_scoped_names(begin) {
        return Made::By("Parcel");
    }
    let mut code = Code::default();
    code.read(begin);
    if code.numbered.len() >= NUMBERED_NAMES_MIN {
        return Made::By("rollup");
    }
    if code.is_minified() {
        return Made::Minified;
    }
    let names_files =
        ["\"./", "'./", "`./", "\"../", "'../", "`../"].iter().any(|begin_of| has(begin, begin_of));
    if begin.len() >= ALONE_MIN_BYTES && !names_files { Made::Alone } else { Made::AsOneOfMany }
}

/// `// ../node_modules/a/index.js`, `//#region node_modules/a/index.js`: a line that names where the module came from.
fn is_place_of_module(line: &[u8]) -> bool {
    let Some(comment) = line.trim_ascii().strip_prefix(b"//") else { return false };
    let place = comment.strip_prefix(b"#region").unwrap_or(comment).trim_ascii_start();
    let is_script = [&b".js"[..], b".cjs", b".mjs", b".ts", b".cts", b".mts", b".jsx", b".tsx", b".json"]
        .iter()
        .any(|ending| place.ends_with(ending));
    is_script
        && !place.contains(&b' ')
        && (memmem::find(place, b"node_modules/").is_some()
            || place.starts_with(b"../")
            || place.starts_with(b"pnp:"))
}

/// `$0123456789abcdef$exports`: how Parcel tells the names of modules apart.
fn has_scoped_names(text: &[u8]) -> bool {
    const DIGITS: usize = 16;
    memchr::memchr_iter(b'$', text).any(|at| {
        let rest = &text[at + 1..];
        rest.get(DIGITS) == Some(&b'$') && rest[..DIGITS].iter().all(u8::is_ascii_hexdigit)
    })
}

/// A text without its comments, counted.
#[derive(Debug, Default)]
struct Code<'t> {
    bytes: usize,
    blanks: usize,
    /// Blanks beside punctuation, outside of strings; one after another count as one.
    needless_blanks: usize,
    /// Within a string that may have several lines.
    in_template: bool,
    parentheses: usize,
    longest_line: usize,
    /// Declared names that end in `$` and a number; no more than are needed.
    numbered: Vec<&'t [u8]>,
}

impl<'t> Code<'t> {
    /// Comments count as such where a line begins with one; a license in front of minified code is no code.
    fn read(&mut self, text: &'t [u8]) {
        let mut in_comment = false;
        for line in text.split(|byte| *byte == b'\n') {
            let mut line = line;
            loop {
                if in_comment {
                    let Some(end) = memmem::find(line, b"*/") else { break };
                    line = &line[end + 2..];
                    in_comment = false;
                }
                let begin = line.trim_ascii_start();
                if begin.starts_with(b"/*") {
                    in_comment = true;
                    line = &begin[2..];
                    continue;
                }
                if !begin.starts_with(b"//") && !begin.starts_with(b"#!") {
                    self.add(line);
                }
                break;
            }
        }
    }

    fn add(&mut self, line: &'t [u8]) {
        self.bytes += line.len() + 1;
        self.blanks += 1 + line.iter().filter(|byte| byte.is_ascii_whitespace()).count();
        self.parentheses += memchr::memchr_iter(b'(', line).count();
        self.longest_line = self.longest_line.max(line.len());
        self.count_needless_blanks(line);
        if self.numbered.len() < NUMBERED_NAMES_MIN
            && let Some(name) = numbered_name(line)
            && !self.numbered.contains(&name)
        {
            self.numbered.push(name);
        }
    }

    fn count_needless_blanks(&mut self, line: &[u8]) {
        let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
        let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || b"_$".contains(byte) || !byte.is_ascii();
        // Quotes that have no end in this line: looked for once, so that no line takes time by the square of its length.
        let (mut unended, mut at): (Vec<u8>, usize) = (Vec::new(), 0);
        while let Some(byte) = line.get(at) {
            let rest = &line[at + 1..];
            match byte {
                _ if self.in_template => match end_of_string(&line[at..], b'`') {
                    Some(end) => {
                        self.in_template = false;
                        at += end + 1;
                    }
                    None => return,
                },
                b'`' => {
                    self.in_template = true;
                    at += 1;
                }
                b'"' | b'\'' if !unended.contains(byte) => {
                    let end = end_of_string(rest, *byte);
                    if end.is_none() {
                        unended.push(*byte);
                    }
                    at += end.map_or(1, |end| end + 2);
                }
                b' ' | b'\t' => {
                    let length = line[at..].iter().take_while(|byte| is_blank(byte)).count();
                    let before = at.checked_sub(1).and_then(|before| line.get(before));
                    let between = [before, line.get(at + length)];
                    let is_needed = between.iter().all(|side| side.is_some_and(is_word));
                    self.needless_blanks += usize::from(!is_needed);
                    at += length;
                }
                _ => at += 1,
            }
        }
    }

    fn is_minified(&self) -> bool {
        let has_few_blanks =
            self.bytes >= LARGE_MIN_BYTES && self.blanks * MINIFIED_BYTES_PER_BLANK < self.bytes;
        self.bytes >= MINIFIED_MIN_BYTES
            && self.longest_line >= MINIFIED_LINE_BYTES
            && (has_few_blanks || self.needless_blanks * MINIFIED_BYTES_PER_NEEDLESS_BLANK < self.bytes)
            && self.parentheses * CODE_BYTES_PER_PARENTHESIS > self.bytes
    }
}

/// Where a string ends that has begun before this text.
fn end_of_string(text: &[u8], quote: u8) -> Option<usize> {
    let mut from = 0;
    loop {
        let at = from + memchr::memchr2(quote, b'\\', text.get(from..)?)?;
        if text[at] == quote {
            return Some(at);
        }
        from = at + 2;
    }
}

/// `x$1` of `const x$1 = …` or `function x$1(`.
fn numbered_name(line: &[u8]) -> Option<&[u8]> {
    let line = line.trim_ascii_start();
    let line = line.strip_prefix(b"async ").unwrap_or(line);
    let words = [&b"var "[..], b"let ", b"const ", b"function ", b"function* ", b"class "];
    let rest = words.iter().find_map(|word| line.strip_prefix(*word))?;
    let end = rest.iter().position(|byte| !byte.is_ascii_alphanumeric() && !b"_$".contains(byte))?;
    let name = &rest[..end];
    let dollar = memchr::memrchr(b'$', name)?;
    let is_number = !name[dollar + 1..].is_empty() && name[dollar + 1..].iter().all(u8::is_ascii_digit);
    (dollar > 0 && is_number).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bundlers_leave_marks() {
        for (text, expected) in [
            ("const express = require('express');\n", Made::AsOneOfMany),
            ("/******/ (() => { // webpackBootstrap\n", Made::By("webpack")),
            ("/*! For license information please see main.js.LICENSE.txt */\n(()=>{", Made::By("webpack")),
            ("var __commonJS = (cb, mod) => function __require() {", Made::By("esbuild")),
            ("\"use strict\";\n// node_modules/a/index.js\n", Made::By("esbuild or Rolldown")),
            ("\n// ../../node_modules/.pnpm/a@1/node_modules/a/index.mjs\n", Made::By("esbuild or Rolldown")),
            ("\n//#region ../all/node_modules/a/index.js\n", Made::By("esbuild or Rolldown")),
            ("\n// pnp:/app/.yarn/cache/a.zip/a/index.js\n", Made::By("esbuild or Rolldown")),
            ("// see node_modules/a/index.js\n", Made::AsOneOfMany),
            ("// node_modules/a/README.md\n", Made::AsOneOfMany),
            ("// src/index.js\nimport a from 'a';\n", Made::AsOneOfMany),
            (
                "var s=(r,e)=>()=>(e||r((e={exports:{}}).exports,e),e.exports);var a=s(()=>{});",
                Made::By("esbuild"),
            ),
            (
                "var f=(e,r)=>()=>{try{return r||e((r={exports:{}}).exports,r),r.exports}catch(s){}}",
                Made::By("esbuild"),
            ),
            ("exports.id=12,exports.ids=[12],exports.modules={7:(e,t,r)=>{}};", Made::By("webpack")),
            ("exports.id = 12;\nexports.ids = [12];\nexports.modules = {\n", Made::By("webpack")),
            ("(self.webpackChunkapp=self.webpackChunkapp||[]).push([[12],{}]);", Made::By("webpack")),
            ("var R=require(\"../chunks/ssr/[turbopack]_runtime.js\")(\"a\")", Made::By("Turbopack")),
            ("module.exports={exports:{}};\n", Made::AsOneOfMany),
            ("var __toESM = (mod) => mod;\n", Made::AsOneOfMany),
            ("function getDefaultExportFromCjs (x) {", Made::By("rollup")),
            ("const a$1 = 1;\nfunction b$2() {}\n", Made::By("rollup")),
            ("const a$1 = 1;\nconst a$1 = 1;\nlet b$ = 2;\nlet $2 = 3;\n", Made::AsOneOfMany),
            ("var $0123456789abcdef$exports = {};\n", Made::By("Parcel")),
            ("const cost = '$0123456789abcdef';\n", Made::AsOneOfMany),
            ("", Made::AsOneOfMany),
        ] {
            assert_eq!(judge(text.as_bytes(), b""), expected, "{text:.60}");
        }
        assert_eq!(judge(b"a", b"\n// @bun"), Made::By("Bun"));
    }

    /// nanoid and a line of an application, by `esbuild --bundle --minify --format=esm`.
    const SMALL: &str = "import i from\"crypto\";var n=\"useandom-26T198340PX75pxJACKVERYMINDBUSHWOLF_GQZbfghjklqvwyzrict\";var \
f=128,t,e,a=l=>{!t||t.length<l?(t=Buffer.allocUnsafe(l*f),i.randomFillSync(t),e=0):e+l>t.length&&(i.randomFillSync(t),e=0),\
e+=l};var m=(l=21)=>{a(l-=0);let r=\"\";for(let o=e-l;o<e;o++)r+=n[t[o]&63];return r};console.log(m());\n";

    #[test]
    fn minified_code_has_no_blanks() {
        let license =
            format!("/*!\n * A license of many words,\n not all lines with an asterisk\n */{SMALL}");
        let table = format!("module.exports = \"{}\";\n", "aGVsbG8gd29ybGQ".repeat(1_000));
        let long_line = format!("const a = [{}];\n", "call(1, 'b'), ".repeat(50));
        let short_lines = "a(b)\n".repeat(100);
        for (text, expected) in [
            (SMALL, Made::Minified),
            (&license, Made::Minified),
            (&SMALL[..150], Made::AsOneOfMany),
            (&table, Made::Alone),
            (&long_line, Made::AsOneOfMany),
            (&short_lines, Made::AsOneOfMany),
        ] {
            assert_eq!(judge(text.as_bytes(), b""), expected, "{text:.60}");
        }
    }

    /// Dense lines of one's own are no bundle, however few blanks they have.
    #[test]
    fn long_lines_of_people_are_not_minified() {
        let written = "const pino=require('pino'),{z}=require('zod'),express=require('express'),app=express(),log=pino({level:'silent'}),S=z.object({a:z.number()});\n\
app.get('/',(q,r)=>{ const v=S.safeParse(q.query); if(!v.success) return r.status(400).json({error:v.error.issues}); log.info(v.data); r.json({ok:true,a:v.data.a}); });\n\
app.use((e,q,r,n)=>{ log.error(e); r.status(500).json({error:e.message}); }); const s=app.listen(0,()=>{ console.log('up'); s.close(()=>{ process.exit(0); }); });\n";
        let evaluated = "const fs=require('fs'),vm=require('vm'),Module=require('module');\n\
const f2=require.resolve('moment'); const m=new Module(f2); m.filename=f2; m.paths=module.paths; m._compile(fs.readFileSync(f2,'utf8'),f2); console.log(typeof m.exports);\n\
const f3=require.resolve('dayjs'); new vm.Script(fs.readFileSync(f3,'utf8'),{filename:f3}).runInThisContext(); console.log(typeof globalThis.dayjs);\n";
        // `esbuild --minify`, `terser`: a table with blanks in strings, and words that need blanks between them.
        let strings = format!(
            "var t=[\"\",\" \",\"  \",\"   \",\"    \",\"     \"],h=`\n  <p> a, b </p>\n`;{}console.log(t);\n",
            "function f(e,t){if(void 0===e)return new Error(\"Can't read: a, or \\\" b\");return typeof e in t}".repeat(3)
        );
        for (text, expected) in [
            (written, Made::AsOneOfMany),
            (evaluated, Made::AsOneOfMany),
            (&written.repeat(15), Made::Alone),
            (&strings, Made::Minified),
        ] {
            let made = judge(text.as_bytes(), b"");
            assert_eq!(made, expected, "{text:.60}");
        }
    }

    #[test]
    fn strings_without_an_end_take_no_time() {
        // By the square of its length it would be minutes.
        let line = "'\\".repeat((super::super::files::HEAD_MAX_BYTES / 2) as usize);
        assert_eq!(judge(line.as_bytes(), b""), Made::Alone);
        assert_eq!(judge("`\\".repeat(1_000).as_bytes(), b""), Made::AsOneOfMany);
    }

    #[test]
    fn a_script_that_needs_no_other_file() {
        let long = "function add(first, second) {\n  return first + second;\n}\n".repeat(100);
        for (before, expected) in [
            ("", Made::Alone),
            ("import { readFile } from 'node:fs';\n", Made::Alone),
            ("const other = require('./other');\n", Made::AsOneOfMany),
            ("export * from \"../other.js\";\n", Made::AsOneOfMany),
        ] {
            assert_eq!(judge(format!("{before}{long}").as_bytes(), b""), expected, "{before}");
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in "[-/*$a0(){}=.\"' \n]{0,300}") {
            judge(text.as_bytes(), b"");
        }
    }
}
