//! Which files may be deleted by which rule, as a list that is the same whenever it is made of the same.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use estoppel_evidence::entry::RunClass;
use estoppel_evidence::envelope::{RETENTION_PREDICATE, Subject, statement};
use estoppel_evidence::time::UnixMicros;
use estoppel_evidence::{Leaf, RunId, Sha256};
use serde::{Deserialize, Serialize};

use super::files::{Folder, Found, Kept, Place, Seen, each_file, is_settled};
use super::survey::SurveyedSegment;
use super::{Class, RetentionError, Survey, SurveyedRun};
use crate::beginning::Copy;

/// Most files that one plan lists; what is left over comes with the next. Default and fixed: 65,536.
pub const OBJECTS_MAX: usize = 65_536;
/// Most files that one plan or report names which it knows nothing of; all are counted. Default and fixed: 1,000.
pub const STRANGERS_MAX: usize = 1_000;
/// How long a stored body is left alone after it was written: the receipt of its call may not be in the log yet.
pub const SETTLE: Duration = Duration::from_secs(24 * 3_600);
const DAY_US: u64 = 86_400_000_000;

/// How long what is kept. Of several rules the first that fits decides; what no rule fits is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    pub class: Class,
    pub id: String,
    pub keep_days: u32,
    /// Whose runs; without it everybody's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_class: Option<RunClass>,
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Object {
    /// The signed time from which its age counts.
    pub age_basis: UnixMicros,
    pub bytes: u64,
    pub class: Class,
    /// Below the journal's folder.
    pub path: String,
    /// Id of the rule.
    pub rule: String,
    /// Of a segment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segment: Option<PlannedSegment>,
    pub sha256: Sha256,
}

impl Object {
    /// The run whose bundle it is, if it is one.
    pub fn bundle(&self) -> Option<RunId> {
        match Place::parse(&self.path) {
            Some(Place::Bundle { run }) => Some(run),
            _ => None,
        }
    }
}

/// What a segment holds, and where its copy is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedSegment {
    pub copy: Copy,
    pub entries: u64,
    /// Log index of its first entry.
    pub first: u64,
    /// Hash of its last entry.
    pub head: Leaf,
}

/// How many files are kept for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reckoned {
    pub count: u64,
    pub why: String,
}

/// Files among bodies and bundles that nobody understands, so that no rule lets them go: of a name that nothing writes there, or
/// that no entry of the log names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Strangers {
    pub count: u64,
    /// Below the journal's folder, in order, at most [`STRANGERS_MAX`].
    pub paths: Vec<String>,
}

impl Strangers {
    /// Those that are there now.
    ///
    /// # Errors
    /// [`RetentionError`].
    pub fn of(dir: &Path, survey: &Survey, as_of: UnixMicros) -> Result<Self, RetentionError> {
        let judge = Judge { survey, rules: &[], as_of };
        let mut strangers = Self::default();
        each_file(dir, |seen| {
            match seen {
                Seen::Stranger(path) => strangers.take(path),
                Seen::File(found) if judge.judge(&found) == Err("unknown") => strangers.take(found.path),
                Seen::File(_) => {}
            }
            Ok(())
        })?;
        Ok(strangers.in_order())
    }

    fn take(&mut self, path: String) {
        self.count += 1;
        self.paths.push(path);
        if self.paths.len() >= 2 * STRANGERS_MAX {
            self.cut();
        }
    }

    fn in_order(mut self) -> Self {
        self.cut();
        self
    }

    fn cut(&mut self) {
        self.paths.sort_unstable();
        self.paths.truncate(STRANGERS_MAX);
    }

    fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// What is to be deleted, in order of digest and path. Members are in the order of canonical JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    pub as_of: UnixMicros,
    pub bytes: u64,
    /// The last entry of the log that it was made of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<Leaf>,
    pub iss: String,
    /// How many files are kept, by why.
    pub kept: Vec<Reckoned>,
    pub objects: Vec<Object>,
    pub rules: Vec<Rule>,
    /// Entries of the log that it was made of.
    pub size: u64,
    pub state: String,
    #[serde(default, skip_serializing_if = "Strangers::is_empty")]
    pub unknown: Strangers,
    pub v: String,
}

impl Plan {
    /// What the rules let go of `dir` at `as_of`.
    ///
    /// # Errors
    /// [`RetentionError`]: a file could not be read, or something among them is no plain file.
    pub fn new(
        dir: &Path,
        survey: &Survey,
        iss: &str,
        rules: &[Rule],
        as_of: UnixMicros,
    ) -> Result<Self, RetentionError> {
        let judge = Judge { survey, rules, as_of };
        let mut kept: BTreeMap<String, u64> = BTreeMap::new();
        let mut due = Vec::new();
        let (mut present, mut strangers) = (Present::default(), Strangers::default());
        each_file(dir, |seen| {
            let found = match seen {
                Seen::File(found) => found,
                Seen::Stranger(path) => {
                    *kept.entry("unknown".to_owned()).or_default() += 1;
                    strangers.take(path);
                    return Ok(());
                }
            };
            present.take(survey, &found.place);
            match judge.judge(&found) {
                Ok((rule, age_basis)) => due.push((age_basis, rule.id.clone(), found)),
                Err(why) => {
                    *kept.entry(why.to_owned()).or_default() += 1;
                    if why == "unknown" {
                        strangers.take(found.path);
                    }
                }
            }
            Ok(())
        })?;
        due.sort_by(|a, b| (a.0, &a.2.path).cmp(&(b.0, &b.2.path)));
        if due.len() > OBJECTS_MAX {
            kept.insert("next_plan".to_owned(), (due.len() - OBJECTS_MAX) as u64); // usize fits.
            due.truncate(OBJECTS_MAX);
        }
        let mut objects = Vec::with_capacity(due.len());
        let folder = Folder::open(dir)?;
        for (age_basis, rule, Found { path, place, .. }) in due {
            let (sha256, bytes) = folder.digest(&place)?;
            let class = place.class();
            objects.push(Object { age_basis, bytes, class, path, rule, segment: None, sha256 });
        }
        if rules.iter().any(|rule| rule.class == Class::Segments) {
            judge.segments(&folder, &present, &mut objects, &mut kept)?;
        }
        objects.sort_by(|a, b| (a.sha256, &a.path).cmp(&(b.sha256, &b.path)));
        Ok(Self {
            as_of,
            bytes: objects.iter().map(|object| object.bytes).fold(0, u64::saturating_add),
            head: survey.head,
            iss: iss.to_owned(),
            kept: kept.into_iter().map(|(why, count)| Reckoned { count, why }).collect(),
            objects,
            rules: rules.to_vec(),
            size: survey.size,
            state: "planned".to_owned(),
            unknown: strangers.in_order(),
            v: "estoppel-retention/v0".to_owned(),
        })
    }

    /// Reads a plan whose signature was verified.
    ///
    /// # Errors
    /// [`RetentionError::Plan`].
    pub fn parse(payload: &[u8]) -> Result<Self, RetentionError> {
        #[derive(Deserialize)]
        struct Signed {
            predicate: Plan,
        }
        let signed: Signed = serde_json::from_slice(payload).map_err(RetentionError::Plan)?;
        Ok(signed.predicate)
    }

    /// Whether all of it may still be deleted: nothing was put under hold or named by a newer receipt since.
    ///
    /// # Errors
    /// [`RetentionError::Stale`], [`RetentionError::Path`].
    pub fn check(&self, survey: &Survey) -> Result<(), RetentionError> {
        for (object, (_, why)) in self.objects.iter().zip(self.reasons(survey)?) {
            if let Some(why) = why {
                return Err(RetentionError::Stale { path: object.path.clone(), why });
            }
        }
        Ok(())
    }

    /// Where each object is, and why it may not be deleted any more, if so.
    pub(super) fn reasons(
        &self,
        survey: &Survey,
    ) -> Result<Vec<(Place, Option<&'static str>)>, RetentionError> {
        let judge = Judge { survey, rules: &self.rules, as_of: self.as_of };
        let segments = self.segments(&judge);
        let reason = |object| {
            let place = Self::place(object)?;
            let why = match &place {
                Place::Segment { first } => segments.get(first).copied().unwrap_or(Some("unknown")),
                _ => judge.again(&place, object),
            };
            Ok((place, why))
        };
        self.objects.iter().map(reason).collect()
    }

    /// Where an object is.
    pub(super) fn place(object: &Object) -> Result<Place, RetentionError> {
        let place = Place::parse(&object.path).filter(|place| {
            let first = object.segment.as_ref().map(|segment| segment.first);
            let stated = if let Place::Segment { first } = place { Some(*first) } else { None };
            place.class() == object.class && first == stated
        });
        place.ok_or_else(|| RetentionError::Path { path: (&object.path).into() })
    }

    /// Of each segment that is listed, why it may not be deleted any more. Only those may go before which none is left.
    fn segments(&self, judge: &Judge<'_>) -> BTreeMap<u64, Option<&'static str>> {
        let first = |object: &Object| object.segment.as_ref().map(|segment| segment.first);
        let listed: BTreeMap<u64, &Object> =
            self.objects.iter().filter_map(|object| Some((first(object)?, object))).collect();
        let (mut is_kept, mut reasons) = (false, BTreeMap::new());
        for seen in &judge.survey.segments {
            let Some(object) = listed.get(&seen.first) else {
                is_kept = true;
                continue;
            };
            let why = if is_kept { Some("not_oldest") } else { judge.segment_again(seen, object) };
            is_kept |= why.is_some();
            reasons.insert(seen.first, why);
        }
        reasons
    }

    /// What is signed: an in-toto statement about the files.
    pub fn statement(&self) -> Vec<u8> {
        statement(RETENTION_PREDICATE, self, &self.subjects())
    }

    /// What is signed once it was deleted; its list is the plan's, byte for byte.
    pub fn completed(
        &self,
        plan: Sha256,
        (at, by): (UnixMicros, &str),
        kept: &[Kept],
        unknown: &Strangers,
    ) -> Vec<u8> {
        let Self { bytes, iss, objects, v, .. } = self;
        let state = "completed";
        let completed = Completed {
            at,
            by,
            bytes: *bytes,
            how: "unlinked",
            iss,
            kept_back: kept,
            objects,
            plan,
            state,
            unknown,
            v,
        };
        statement(RETENTION_PREDICATE, completed, &self.subjects())
    }

    fn subjects(&self) -> Vec<Subject> {
        let subject = |object: &Object| Subject { name: object.path.clone(), digest: object.sha256 };
        self.objects.iter().map(subject).collect()
    }
}

#[derive(Serialize)]
struct Completed<'a> {
    at: UnixMicros,
    by: &'a str,
    bytes: u64,
    how: &'static str,
    iss: &'a str,
    kept_back: &'a [Kept],
    objects: &'a [Object],
    plan: Sha256,
    state: &'static str,
    #[serde(skip_serializing_if = "Strangers::is_empty")]
    unknown: &'a Strangers,
    v: &'a str,
}

/// Decides by rules, and says in a word why something is kept.
struct Judge<'a> {
    survey: &'a Survey,
    rules: &'a [Rule],
    as_of: UnixMicros,
}

type Judged<'a> = Result<(&'a Rule, UnixMicros), &'static str>;

impl<'a> Judge<'a> {
    fn judge(&self, found: &Found) -> Judged<'a> {
        if found.place.class() == Class::Bodies && !is_settled(found.modified, self.as_of) {
            return Err("recent");
        }
        self.place(&found.place)
    }

    fn place(&self, place: &Place) -> Judged<'a> {
        match place {
            Place::Bundle { run } | Place::Beside { run, .. } => {
                let seen = self.survey.runs.get(run).ok_or("unknown")?;
                let sealed = seen.sealed.ok_or("open")?;
                self.of_run(Class::Bundles, *run, seen, sealed)
            }
            Place::Body { digest, .. } => {
                let named = self.survey.bodies.get(digest).ok_or("unknown")?;
                let mut newest: Option<(&Rule, UnixMicros)> = None;
                for (run, ts) in named {
                    let seen = self.survey.runs.get(run).ok_or("unknown")?;
                    let judged = self.of_run(Class::Bodies, *run, seen, *ts)?;
                    if newest.is_none_or(|(_, before)| before < judged.1) {
                        newest = Some(judged);
                    }
                }
                newest.ok_or("unknown")
            }
            Place::Segment { .. } => Err("unknown"),
        }
    }

    /// Why what was planned may not be deleted any more.
    fn again(&self, place: &Place, object: &Object) -> Option<&'static str> {
        match self.place(place) {
            Ok((rule, age_basis)) if rule.id == object.rule && age_basis == object.age_basis => None,
            Ok(_) => Some("recorded_again"),
            Err(why) => Some(why),
        }
    }

    fn segment_again(&self, seen: &SurveyedSegment, object: &Object) -> Option<&'static str> {
        let planned = object.segment.as_ref().map(|planned| (planned.entries, planned.head));
        match self.segment(seen) {
            Err(why) => Some(why),
            Ok((rule, age_basis)) if rule.id != object.rule || age_basis != object.age_basis => {
                Some("recorded_again")
            }
            Ok(_) if planned != Some((seen.entries, seen.head)) => Some("changed"),
            Ok(_) if !self.survey.copies.contains_key(&object.sha256) => Some("not_archived"),
            Ok(_) => None,
        }
    }

    /// Adds the oldest segments, as far as each of them may go.
    fn segments(
        &self,
        folder: &Folder,
        present: &Present,
        objects: &mut Vec<Object>,
        kept: &mut BTreeMap<String, u64>,
    ) -> Result<(), RetentionError> {
        let mut before: Option<&'static str> = None;
        for seen in &self.survey.segments {
            let judged = match before {
                None if objects.len() >= OBJECTS_MAX => Err("next_plan"),
                None => match self.segment(seen) {
                    Ok(_) if present.is_in_use(seen) => Err("in_use"),
                    judged => judged,
                },
                Some("next_plan") => Err("next_plan"),
                Some(_) => Err("not_oldest"),
            };
            let why = match judged {
                Ok(judged) => self.archived(folder, seen, judged, objects)?,
                Err(why) => Some(why),
            };
            if let Some(why) = why {
                *kept.entry(why.to_owned()).or_default() += 1;
            }
            before = before.or(why);
        }
        Ok(())
    }

    /// Adds a segment whose content was archived, or says that it was not.
    fn archived(
        &self,
        folder: &Folder,
        seen: &SurveyedSegment,
        (rule, age_basis): (&Rule, UnixMicros),
        objects: &mut Vec<Object>,
    ) -> Result<Option<&'static str>, RetentionError> {
        let place = Place::Segment { first: seen.first };
        let (sha256, bytes) = folder.digest(&place)?;
        let copy = self.survey.copies.get(&sha256).filter(|copy| copy.retain_until > self.as_of);
        let Some(copy) = copy.cloned() else { return Ok(Some("not_archived")) };
        let SurveyedSegment { first, entries, head, .. } = *seen;
        let segment = Some(PlannedSegment { copy, entries, first, head });
        let (class, path, rule) = (place.class(), place.path(), rule.id.clone());
        objects.push(Object { age_basis, bytes, class, path, rule, segment, sha256 });
        Ok(None)
    }

    /// Whether the log lets a segment go that is the oldest.
    fn segment(&self, seen: &SurveyedSegment) -> Judged<'a> {
        if !seen.is_finished {
            return Err("open");
        }
        if seen.is_in_force {
            return Err("in_force");
        }
        for run in &seen.runs {
            let of = self.survey.runs.get(run).ok_or("unknown")?;
            match () {
                () if of.sealed.is_none() => return Err("open"),
                () if !of.is_settled => return Err("not_bundled"),
                () if self.survey.is_held(run) => return Err("held"),
                () => {}
            }
        }
        let rule = self.rules.iter().find(|rule| rule.class == Class::Segments).ok_or("no_rule")?;
        self.aged(rule, seen.newest)
    }

    fn aged(&self, rule: &'a Rule, from: UnixMicros) -> Judged<'a> {
        let until = from.0.saturating_add(u64::from(rule.keep_days).saturating_mul(DAY_US));
        if until > self.as_of.0 { Err("young") } else { Ok((rule, from)) }
    }

    fn of_run(&self, class: Class, run: RunId, seen: &SurveyedRun, from: UnixMicros) -> Judged<'a> {
        if seen.sealed.is_none() {
            return Err("open");
        }
        if !seen.is_settled {
            return Err("not_bundled");
        }
        if self.survey.is_held(&run) {
            return Err("held");
        }
        let fits = |rule: &&Rule| rule.class == class && rule.run_class.is_none_or(|of| of == seen.class);
        let rule = self.rules.iter().find(fits).ok_or("no_rule")?;
        self.aged(rule, from)
    }
}

/// Log indexes of entries that something which is still here needs: the seal of a bundle's run, the newest receipt of a stored body.
#[derive(Default)]
struct Present(BTreeSet<u64>);

impl Present {
    fn take(&mut self, survey: &Survey, place: &Place) {
        self.0.extend(match place {
            Place::Bundle { run } | Place::Beside { run, .. } => survey.seals.get(run),
            Place::Body { digest, .. } => survey.named.get(digest),
            Place::Segment { .. } => None,
        });
    }

    fn is_in_use(&self, seen: &SurveyedSegment) -> bool {
        let after = seen.first.saturating_add(seen.entries);
        self.0.range(seen.first..after).next().is_some()
    }
}
