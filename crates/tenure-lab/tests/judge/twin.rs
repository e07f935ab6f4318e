//! The unfenced twin of a resource, which must lose writes under pauses.

use tenure_lab::judge::Status;

use crate::script::{history, status, verdict};

const TWIN: &str = "1 1 a enter ok token=3 value=0 resource=u fenced=false\n2 1 b enter ok token=4 value=0 resource=u fenced=false\n\
                    3 1 b write ok token=4 value=1 resource=u fenced=false\n";
const PAUSE: &str = "1 0 - fault begin fault=pause target=\"client_1\"\n2500 0 - fault end fault=pause\n";

#[test]
fn the_twin_must_lose_under_pauses() {
    let pause = PAUSE.replace("\"client_1\"", "client");
    let lost = format!(
        "{TWIN}4 1 a write ok token=3 value=1 resource=u fenced=false\n9 0 - final ok value=1 resource=u fenced=false\n"
    );
    let kept = format!(
        "{TWIN}4 1 c enter ok token=5 value=1 resource=u fenced=false\n5 1 c write ok token=5 value=2 resource=u fenced=false\n9 0 - final ok value=2 resource=u fenced=false\n"
    );
    let found = verdict(&history(&format!("{lost}{pause}")), "twin");
    assert_eq!((found.status, found.counts[1]), (Status::Held, ("lost", 1)), "{found:?}");
    assert!(found.text.contains("1 of 2"), "{}", found.text);
    assert_eq!(status(&format!("{kept}{pause}"), "twin"), Status::FloorMissed);
    // Without a pause there is nothing that should make it lose, and without writes nothing to judge.
    assert_eq!(status(&kept, "twin"), Status::Held);
    assert_eq!(status(&pause, "twin"), Status::NotJudged);
    // The twin is not held to the fence.
    assert_eq!(status(&format!("{lost}{pause}"), "S3"), Status::NotJudged);
}
