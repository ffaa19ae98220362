//! In which form versions of a plugin keep their state: which can read what which others wrote.
//!
//! A version that migrates has a form of its own, made of that of the version before it. One that does not finds
//! the state as it is, so it has the form of the version before it. Two versions of a form share their state.

use crate::artifact::Digest;

/// Of how many versions it is known, those that are kept among them.
const LINES_MAX: usize = 64;
/// Where a form was made of none.
const NONE: &str = "-";

/// The forms of the versions of one plugin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Forms(Vec<Line>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    version: Digest,
    /// The first version that kept its state in this form.
    form: Digest,
    /// The form that this one was made of, where the version is the first of its form.
    made_of: Option<Digest>,
}

impl Forms {
    /// Takes a version into account that came after another one. What is known of it stays.
    pub(super) fn learn(&mut self, version: Digest, migrates: bool, after: Option<Digest>) {
        if self.form(version).is_some() {
            return;
        }
        let before = after.filter(|after| *after != version);
        // Of versions from before this was written down the form is not known: it is theirs alone.
        let before = before.map(|before| self.form(before).unwrap_or(before));
        let line = match before {
            Some(form) if !migrates => Line { version, form, made_of: None },
            made_of => Line { version, form: version, made_of },
        };
        self.0.push(line);
    }

    /// Forgets the oldest of those that are not kept, where there are too many.
    pub(super) fn prune(&mut self, kept: impl Fn(Digest) -> bool) {
        let mut surplus = self.0.len().saturating_sub(LINES_MAX);
        self.0.retain(|line| {
            let goes = surplus > 0 && !kept(line.version);
            surplus -= usize::from(goes);
            !goes
        });
    }

    fn form(&self, version: Digest) -> Option<Digest> {
        self.0.iter().find(|line| line.version == version).map(|line| line.form)
    }

    /// Whether two versions share their state; `None` if that is not known.
    pub(super) fn same(&self, one: Digest, other: Digest) -> Option<bool> {
        if one == other {
            return Some(true);
        }
        let of = |version| self.form(version);
        Some(of(one)? == of(other)?)
    }

    /// Whether the form of a version was made of that of another one, through others too.
    pub(super) fn descends(&self, version: Digest, from: Digest) -> bool {
        let (Some(form), Some(from)) = (self.form(version), self.form(from)) else { return false };
        let made_of = |form: &Digest| self.0.iter().find(|line| line.version == *form)?.made_of;
        std::iter::successors(made_of(&form), made_of).take(LINES_MAX).any(|form| form == from)
    }

    /// A line each, from the oldest: version, form, what this was made of.
    pub(super) fn to_text(&self) -> String {
        let line = |line: &Line| {
            let made_of = line.made_of.map_or_else(|| String::from(NONE), |digest| digest.to_hex());
            format!("{} {} {made_of}\n", line.version.to_hex(), line.form.to_hex())
        };
        self.0.iter().map(line).collect()
    }

    /// What [`Self::to_text`] wrote; `None` if it is something else.
    pub(super) fn of_text(text: &str) -> Option<Self> {
        let line = |line: &str| {
            let mut fields = line.split(' ');
            let (version, form) = (Digest::of_hex(fields.next()?)?, Digest::of_hex(fields.next()?)?);
            let made_of = match fields.next()? {
                NONE => None,
                digest => Some(Digest::of_hex(digest)?),
            };
            fields.next().is_none().then_some(Line { version, form, made_of })
        };
        text.lines().map(line).collect::<Option<_>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(name: &str) -> Digest {
        Digest::of(name.as_bytes())
    }

    /// 1 and 2 share their state, 3 migrates it, 4 finds it as it is, and 5 migrates what 2 left.
    fn forms() -> Forms {
        let mut forms = Forms::default();
        for (version, migrates, after) in
            [("1", false, None), ("2", false, Some("1")), ("3", true, Some("2")), ("4", false, Some("3"))]
        {
            forms.learn(digest(version), migrates, after.map(digest));
        }
        forms.learn(digest("5"), true, Some(digest("2")));
        forms
    }

    #[test]
    fn versions_share_their_state_until_one_migrates_it() {
        let forms = forms();
        let same = |one, other| forms.same(digest(one), digest(other));
        for (one, other, expected) in
            [("1", "2", true), ("2", "3", false), ("3", "4", true), ("1", "4", false), ("3", "5", false)]
        {
            assert_eq!(
                (same(one, other), same(other, one)),
                (Some(expected), Some(expected)),
                "{one} {other}"
            );
        }
        assert_eq!((same("1", "x"), same("x", "x")), (None, Some(true)));
        let descends = |one, from| forms.descends(digest(one), digest(from));
        assert!(descends("4", "1") && descends("3", "2") && descends("5", "1"));
        assert!(!descends("1", "4") && !descends("5", "3") && !descends("2", "1") && !descends("x", "1"));
    }

    #[test]
    fn what_is_known_of_a_version_stays_when_it_comes_again() {
        let mut forms = forms();
        forms.learn(digest("1"), false, Some(digest("3")));
        forms.learn(digest("3"), true, Some(digest("5")));
        assert_eq!(forms, self::forms());
        // After one from before this was written down.
        forms.learn(digest("6"), false, Some(digest("old")));
        forms.learn(digest("7"), true, Some(digest("old")));
        assert_eq!(forms.same(digest("6"), digest("old")), None);
        assert!(!forms.descends(digest("7"), digest("3")));
    }

    #[test]
    fn the_format_stays_and_what_is_kept_is_not_forgotten() {
        let text = format!("{0} {0} -\n{1} {1} {0}\n", "0a".repeat(32), "ff".repeat(32));
        let forms = Forms::of_text(&text).unwrap();
        assert!(forms.descends(Digest([255; 32]), Digest([10; 32])) && forms.to_text() == text);
        for damaged in
            ["x", "00 00 -", &format!("{0} {0}", "00".repeat(32)), &format!("{0} {0} - -", "00".repeat(32))]
        {
            assert!(Forms::of_text(damaged).is_none(), "{damaged}");
        }
        let mut many = Forms::default();
        for number in 0..80 {
            many.learn(
                digest(&number.to_string()),
                false,
                (number > 0).then(|| digest(&(number - 1).to_string())),
            );
        }
        many.prune(|version| version == digest("0"));
        assert_eq!(many.0.len(), LINES_MAX);
        assert_eq!(many.same(digest("0"), digest("79")), Some(true));
        assert_eq!(many.same(digest("0"), digest("5")), None);
    }
}
