//! Why something was refused: the codes of SPEC sections 11, 13, 14, 16 and 17, and what each does to the verdicts.
//!
//! The codes are an interface: scripts and other verifiers compare them. A test reads them out of SPEC.md and
//! fails when the two lists differ.

/// The verdict that a reason decides, see the second tables of SPEC sections 11, 16 and 17.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decides {
    Integrity,
    Authenticity,
    /// The run has no seal: the verdict is `open`, not `failed`.
    Open,
    Completeness,
    Anchoring,
    /// Whether given bytes are those of a stream, or a body.
    Proof,
    /// The reader's own input is at fault: no verdict.
    Nothing,
}

macro_rules! reasons {
    ($($name:ident $code:literal $decides:ident $meaning:literal;)*) => {
        /// One code of SPEC sections 11, 13, 14, 16 and 17.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason { $(#[doc = $meaning] $name,)* }

        impl Reason {
            /// Every reason, in the order of the steps.
            pub const ALL: &'static [Reason] = &[$(Reason::$name,)*];

            /// The code as SPEC writes it.
            pub fn code(self) -> &'static str {
                match self { $(Reason::$name => $code,)* }
            }

            /// One sentence for a reader who has not read SPEC.
            pub fn meaning(self) -> &'static str {
                match self { $(Reason::$name => $meaning,)* }
            }

            /// The verdict that this reason decides.
            pub fn decides(self) -> Decides {
                match self { $(Reason::$name => Decides::$decides,)* }
            }
        }
    };
}

reasons! {
    ContainerLimit "CONTAINER_LIMIT" Integrity "the bundle has more bytes or entries than the format allows";
    EntryCompressed "ENTRY_COMPRESSED" Integrity "a ZIP entry is not stored as it is";
    PathForbidden "PATH_FORBIDDEN" Integrity "a file has a path that the format forbids, or is not a regular file";
    EntryDuplicate "ENTRY_DUPLICATE" Integrity "two ZIP entries have the same name";
    ContainerMalformed "CONTAINER_MALFORMED" Integrity "the ZIP is not the one that its content determines";
    FileMissing "FILE_MISSING" Integrity "a file that must be in the bundle is not there";
    ManifestMalformed "MANIFEST_MALFORMED" Integrity "the manifest is not canonical JSON";
    ManifestSchema "MANIFEST_SCHEMA" Integrity "the manifest does not follow its schema";
    KeyIdMismatch "KEY_ID_MISMATCH" Integrity "a key in the manifest is listed twice or under an id that is not its hash";
    AlgorithmMismatch "ALGORITHM_MISMATCH" Integrity "a key in the manifest is not of the algorithm that is stated";
    EnvelopeMalformed "ENVELOPE_MALFORMED" Integrity "a signature envelope is not in its one allowed form";
    KeyUnknown "KEY_UNKNOWN" Authenticity "an envelope is signed by a key that is not listed for this use";
    EnvelopeSignature "ENVELOPE_SIGNATURE" Authenticity "the signature of an envelope does not verify";
    LineLength "LINE_LENGTH" Integrity "a line is empty, too long, or does not end in a line feed";
    LineMalformed "LINE_MALFORMED" Integrity "a line is not an admitted JSON document";
    LineNotCanonical "LINE_NOT_CANONICAL" Integrity "a line is not in canonical form";
    LineSchema "LINE_SCHEMA" Integrity "a line does not follow the schema of its kind";
    SeqMismatch "SEQ_MISMATCH" Integrity "an entry is not at the place that it states";
    RunMismatch "RUN_MISMATCH" Integrity "an entry belongs to another run or instance";
    ChainBroken "CHAIN_BROKEN" Integrity "an entry does not name the entry before it";
    KeyMismatch "KEY_MISMATCH" Authenticity "an entry names a key that may not sign it";
    TimeReversed "TIME_REVERSED" Integrity "the steady clock of a run goes backwards";
    SignatureMissing "SIGNATURE_MISSING" Authenticity "an entry has no signature although each must have one";
    SignatureInvalid "SIGNATURE_INVALID" Authenticity "the signature of an entry does not verify";
    RotationInvalid "ROTATION_INVALID" Authenticity "a key was replaced without proof that both keys agree";
    SealNotLast "SEAL_NOT_LAST" Integrity "an entry follows the seal of its run";
    ApprovalInvalid "APPROVAL_INVALID" Authenticity "a call that was held passed without the decisions that it needed";
    SnapshotMismatch "SNAPSHOT_MISMATCH" Integrity "a snapshot came late that no receipt before it awaits";
    SealMissing "SEAL_MISSING" Open "the run was not sealed";
    SignatureSurplus "SIGNATURE_SURPLUS" Integrity "there are signatures that belong to no entry";
    SealMismatch "SEAL_MISMATCH" Integrity "the seal does not state what the entries add up to";
    ManifestMismatch "MANIFEST_MISMATCH" Integrity "the manifest does not state what the entries say";
    CheckpointMalformed "CHECKPOINT_MALFORMED" Integrity "a checkpoint is not a well-formed note of this log";
    CheckpointMismatch "CHECKPOINT_MISMATCH" Integrity "a checkpoint signs another tree than the entries form";
    CheckpointSignature "CHECKPOINT_SIGNATURE" Authenticity "the signature of a checkpoint does not verify";
    FileUnlisted "FILE_UNLISTED" Integrity "the files of the bundle and the list in the manifest differ";
    FileDigest "FILE_DIGEST" Integrity "a file does not have the size or digest that the manifest states";
    FileNameDigest "FILE_NAME_DIGEST" Integrity "a file that is named by its digest has another digest";
    PolicyMissing "POLICY_MISSING" Integrity "a policy that judged a call is not in the bundle";
    StatementMismatch "STATEMENT_MISMATCH" Integrity "the signed statement is not about exactly these files";
    SumsMismatch "SUMS_MISMATCH" Integrity "SHA256SUMS does not list exactly these files";
    StreamMismatch "STREAM_MISMATCH" Integrity "the stored tree of a stream does not match its receipt";
    BodyMissing "BODY_MISSING" Integrity "a body that a receipt names is neither inside nor beside the bundle";
    ExternalUnknown "EXTERNAL_UNKNOWN" Integrity "an external file is listed that no receipt names";
    MissingExternal "MISSING_EXTERNAL" Completeness "a file that is kept beside the bundle is not there";
    ExternalDigest "EXTERNAL_DIGEST" Completeness "a file beside the bundle has another size or digest";
    AnchorMalformed "ANCHOR_MALFORMED" Anchoring "the anchor is not a well-formed proof for this instance";
    AnchorMismatch "ANCHOR_MISMATCH" Anchoring "the anchor does not prove that the seal is in the instance log";
    AnchorSignature "ANCHOR_SIGNATURE" Anchoring "the signature of the anchor's checkpoint does not verify";
    TrustInvalid "TRUST_INVALID" Nothing "the trust document is not usable";
    KeyUntrusted "KEY_UNTRUSTED" Authenticity "a key that signed is not in the trust document";
    KeyRevoked "KEY_REVOKED" Authenticity "a key that signed was revoked at or before this place in the log";
    CrcMismatch "CRC_MISMATCH" Integrity "a ZIP entry has a wrong CRC-32";
    SegmentHeader "SEGMENT_HEADER" Integrity "a journal has no segment, or one with a bad header";
    JournalTorn "JOURNAL_TORN" Integrity "the journal's last write was cut short";
    FrameInvalid "FRAME_INVALID" Integrity "a frame of the journal is damaged";
    IndexMismatch "INDEX_MISMATCH" Integrity "the journal's frames or segments do not follow each other";
    BlobMismatch "BLOB_MISMATCH" Integrity "a stored blob has another hash, or no entry names it";
    JournalTruncated "JOURNAL_TRUNCATED" Completeness "the journal has fewer entries than a checkpoint signs";
    JournalBeginsLater "JOURNAL_BEGINS_LATER" Completeness "a checkpoint is of entries that the journal does not have any more";
    BeginningUnrecorded "BEGINNING_UNRECORDED" Completeness "no entry of the journal says that its oldest segments were deleted";
    DisclosureInvalid "DISCLOSURE_INVALID" Nothing "the disclosed key is not in a usable document";
    CallUnknown "CALL_UNKNOWN" Proof "the run has no such call";
    StreamAbsent "STREAM_ABSENT" Proof "the call was not answered by an event stream";
    DisclosureMismatch "DISCLOSURE_MISMATCH" Nothing "the disclosed key is of another run or call";
    StreamNodesAbsent "STREAM_NODES_ABSENT" Nothing "nothing was kept by which a single event can be proven";
    EventMissing "EVENT_MISSING" Proof "the stream has more units than were given";
    EventSurplus "EVENT_SURPLUS" Proof "the stream has fewer units than were given";
    EventBlock "EVENT_BLOCK" Nothing "these units can only be proven together with those around them";
    EventsUnknown "EVENTS_UNKNOWN" Proof "nothing that was given is in the stream: other bytes, or another key";
    EventMismatch "EVENT_MISMATCH" Proof "the stream holds something else at this place";
    BodyAbsent "BODY_ABSENT" Nothing "the receipt holds nothing by which this body can be proven";
    BodyUnknown "BODY_UNKNOWN" Proof "these bytes are not the body: other bytes, or another key";
}

impl Reason {
    /// 6 when the reader's own input was wrong, otherwise 2.
    pub fn exit_code(self) -> u8 {
        match self {
            Reason::TrustInvalid
            | Reason::DisclosureInvalid
            | Reason::DisclosureMismatch
            | Reason::StreamNodesAbsent
            | Reason::EventBlock
            | Reason::BodyAbsent => 6,
            _ => 2,
        }
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.code())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const SPEC: &str = include_str!("../../../spec/pef/SPEC.md");

    /// Codes between backticks in sections 11 to 17.
    fn codes_of_spec() -> BTreeSet<&'static str> {
        let from = SPEC.find("## 11. Verifying a bundle").unwrap();
        SPEC[from..]
            .split('`')
            .skip(1)
            .step_by(2)
            .filter(|word| word.contains('_') && word.bytes().all(|b| b.is_ascii_uppercase() || b == b'_'))
            .collect()
    }

    #[test]
    fn the_reasons_are_exactly_the_codes_of_the_specification() {
        let ours: BTreeSet<&str> = Reason::ALL.iter().map(|r| r.code()).collect();
        assert_eq!(ours.len(), Reason::ALL.len(), "a code occurs twice");
        assert_eq!(ours, codes_of_spec());
    }
}
