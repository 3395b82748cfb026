//! What has to happen when a manifest or a plugin is not what it was. Nothing is done here.

use std::time::Duration;

use crate::model::{Function, HandlerSpec, ScaleSpec};

/// A function as it stands on disk.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub function: &'a Function,
    /// The SHA-256 of its plugin's file; `None`: it cannot be read, or there is no handler.
    pub plugin: Option<&'a str>,
}

/// A function as it was taken up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Taken<'a> {
    pub function: &'a Function,
    /// The SHA-256 of the plugin that was loaded.
    pub plugin: Option<&'a str>,
    /// It has stopped, though nobody asked it to.
    pub has_failed: bool,
}

/// What has to happen to one function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing.
    Keep,
    /// It is new.
    Start,
    /// Only its handler is another: between two cuts, without leaving the group.
    Swap,
    /// It finishes and leaves, and begins anew.
    Restart,
    /// Its manifest is gone: it finishes and leaves.
    Remove,
}

/// What has to happen. `is_known`: the manifests tell truly what is wanted; while one that may be this function's is
/// broken, they do not.
pub(super) fn change(taken: Option<Taken<'_>>, wanted: Option<Wanted<'_>>, is_known: bool) -> Change {
    match (taken, wanted) {
        (None, None) => Change::Keep,
        (None, Some(_)) => Change::Start,
        (Some(_), None) if is_known => Change::Remove,
        (Some(_), None) => Change::Keep,
        (Some(taken), Some(wanted)) => {
            let is_same = is_same_but_for_the_handler(taken.function, wanted.function);
            let has_same_handler =
                handler(taken.function) == handler(wanted.function) && taken.plugin == wanted.plugin;
            match (is_same, has_same_handler) {
                (true, true) => Change::Keep,
                (true, false) if !taken.has_failed => Change::Swap,
                _ => Change::Restart,
            }
        }
    }
}

/// What can be replaced between two cuts. The timeout is not among it: clients are made to last longer than a call. Nor
/// are concurrency and rate: a worker is built around them.
fn handler(function: &Function) -> Option<impl PartialEq + '_> {
    let HandlerSpec {
        plugin,
        crate_dir: _,
        sha256,
        entry,
        config,
        timeout: _,
        concurrency: _,
        on_hang: _,
        rate: _,
    } = function.handler.as_ref()?;
    Some((plugin, sha256, entry, config))
}

fn is_same_but_for_the_handler(one: &Function, other: &Function) -> bool {
    let rest = |function: &Function| {
        let kept =
            |handler: &HandlerSpec| (handler.timeout, handler.concurrency, handler.on_hang, handler.rate);
        let kept = function.handler.as_ref().map(kept);
        // Where the manifest stands and what it is labelled changes nothing that runs, nor does how many workers
        // there should be; how many there are stands in `workers`.
        let bare = Function {
            scale: ScaleSpec {
                min: 0,
                max: None,
                drain_within: Duration::ZERO,
                park_after: function.scale.park_after,
                zero_after: Duration::ZERO,
            },
            is_scaled: false,
            handler: None,
            file: Default::default(),
            labels: Default::default(),
            ..function.clone()
        };
        (kept, bare)
    };
    rest(one) == rest(other)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::manifest;

    const MANIFEST: &str = "
apiVersion: tidemill.dev/v1alpha1
kind: Function
metadata: { name: echo }
spec:
  handler: { plugin: echo, entry: echo, config: { a: 1 }, timeout: 5s }
  sources: [{ topic: in }]
  sinks: [{ topic: out }]
";

    fn function(text: &str) -> Function {
        let mut functions = manifest::parse(Path::new("/f/function.yaml"), text).expect("a valid manifest");
        functions.remove(0)
    }

    #[test]
    fn what_changed_says_what_has_to_happen() {
        use Change::{Keep, Restart, Swap};
        let handler = "  handler: { plugin: echo, entry: echo, config: { a: 1 }, timeout: 5s }\n";
        let digest = "sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
        // What is replaced in the manifest, by what, what happens to a running function, and to one that failed.
        let cases = [
            ("", "", Keep, Keep),
            ("{ name: echo }", "{ name: echo, labels: { team: growth } }", Keep, Keep),
            ("spec:", "spec:\n  scale: { max: 9, drainWithin: 5s }", Keep, Keep),
            ("{ a: 1 }", "{ a: 2 }", Swap, Restart),
            ("entry: echo", "entry: other", Swap, Restart),
            ("plugin: echo", "plugin: echo-2", Swap, Restart),
            ("entry: echo", &format!("entry: echo, {digest}"), Swap, Restart),
            ("timeout: 5s", "timeout: 6s", Restart, Restart),
            (handler, "", Restart, Restart),
            ("topic: in", "topic: other", Restart, Restart),
            ("topic: out", "topic: other", Restart, Restart),
            ("spec:", "spec:\n  delivery: { commitInterval: 1s }", Restart, Restart),
            ("spec:", "spec:\n  scale: { min: 2 }", Restart, Restart),
            ("spec:", "spec:\n  group: other", Restart, Restart),
        ];
        let old = function(MANIFEST);
        for (from, to, running, failed) in cases {
            let new = function(&MANIFEST.replacen(from, to, 1));
            for (has_failed, expected) in [(false, running), (true, failed)] {
                let taken = Taken { function: &old, plugin: Some("1"), has_failed };
                let wanted = Wanted { function: &new, plugin: Some("1") };
                assert_eq!(change(Some(taken), Some(wanted), true), expected, "{from} -> {to}, {has_failed}");
            }
        }
        let moved = Function { file: "/f/renamed.yaml".into(), ..old.clone() };
        let taken = Taken { function: &old, plugin: Some("1"), has_failed: false };
        assert_eq!(change(Some(taken), Some(Wanted { function: &moved, plugin: Some("1") }), true), Keep);
    }

    #[test]
    fn another_window_is_a_new_run() {
        let handler = "  handler: { plugin: echo, entry: echo, config: { a: 1 }, timeout: 5s }\n";
        let window = "  window: { tumbling: { size: 10s }, aggregate: { rides: { op: count } } }\n";
        let windowed = MANIFEST.replace(handler, window);
        let old = function(&windowed);
        let cases = [
            ("", "", Change::Keep),
            ("tumbling: { size: 10s }", "tumbling: { size: 10000ms }", Change::Keep),
            ("size: 10s", "size: 20s", Change::Restart),
            ("tumbling", "sliding", Change::Restart),
            ("window: {", "window: { grace: 1s,", Change::Restart),
            ("window: {", "window: { fire: { at: update },", Change::Restart),
            ("rides:", "calls:", Change::Restart),
            ("op: count", "op: count, field: /fare", Change::Restart),
            ("spec:", "spec:\n  state: { maxBytes: 2Gi }", Change::Restart),
            (window, handler, Change::Restart),
        ];
        for (from, to, expected) in cases {
            let new = function(&windowed.replacen(from, to, 1));
            let taken = Taken { function: &old, plugin: None, has_failed: false };
            let wanted = Wanted { function: &new, plugin: None };
            assert_eq!(change(Some(taken), Some(wanted), true), expected, "{from} -> {to}");
        }
    }

    #[test]
    fn another_plugin_in_the_same_place_is_another_handler() {
        let echo = function(MANIFEST);
        let wanted = |plugin| Some(Wanted { function: &echo, plugin });
        let taken = |has_failed| Some(Taken { function: &echo, plugin: Some("1"), has_failed });
        assert_eq!(change(taken(false), wanted(Some("2")), true), Change::Swap);
        assert_eq!(change(taken(true), wanted(Some("2")), true), Change::Restart);
        assert_eq!(change(taken(false), wanted(None), true), Change::Swap, "trying tells why it is refused");
    }

    #[test]
    fn a_function_comes_and_goes_with_its_manifest() {
        let echo = function(MANIFEST);
        let wanted = Some(Wanted { function: &echo, plugin: None });
        let taken = Some(Taken { function: &echo, plugin: None, has_failed: false });
        assert_eq!(change(None, None, true), Change::Keep);
        assert_eq!(change(None, wanted, true), Change::Start);
        assert_eq!(change(taken, None, true), Change::Remove);
        assert_eq!(change(taken, None, false), Change::Keep, "a broken manifest is not a missing one");
        assert_eq!(change(taken, wanted, false), Change::Keep);
    }
}
