//! Every story under `stories/` ends as it says. `UPDATE_EXPECT=1 cargo test -p tandem-sim --test
//! stories` writes what was seen into the files; read the difference before you keep it.

use std::path::Path;

use tandem_sim::{STORY_SEED, Story};

/// There are at least so many stories: a folder that is not found proves nothing.
const STORIES_MIN: usize = 20;

#[test]
fn every_story_goes_as_it_is_told() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("stories");
    let mut files: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "story"));
    files.sort();
    assert!(files.len() >= STORIES_MIN, "{} stories found", files.len());
    let update = std::env::var_os("UPDATE_EXPECT").is_some();
    let mut failed = Vec::new();
    for file in files {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let story = Story::parse(&std::fs::read_to_string(&file).unwrap())
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let (seen, kept) = story.play(STORY_SEED);
        if update {
            std::fs::write(&file, story.with(&seen)).unwrap();
        }
        if !kept {
            failed.push(format!("{name}: a promise was broken or an expectation failed\n{seen}"));
        } else if !update && seen != story.expected() {
            failed.push(format!(
                "{name}: went otherwise; expected:\n{}\nseen:\n{seen}",
                story.expected()
            ));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
