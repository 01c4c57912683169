//! The folder on a real disk: what is added, damaged, cut off, too much.

// What fails here fails the test.
#![allow(clippy::unwrap_used)]

mod place;

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::sync::{Arc, Mutex};

use place::{Place, SMALL, noise};
use tandem_files::{
    Chunk, ContentId, FILE_BYTES_MAX, FileError, Finished, Folder, Kept, ROOM_KEPT_BYTES, Telling,
    check_length, verify_all,
};

fn add(folder: &Folder, bytes: &[u8]) -> ContentId {
    let staged = folder.stage(1, &mut &bytes[..]).unwrap();
    folder.adopt(&staged).unwrap();
    staged.content
}

fn recipe(folder: &Folder, content: ContentId) -> Vec<Chunk> {
    match folder.tell(content).unwrap() {
        Telling::Recipe(chunks) => chunks,
        Telling::Whole(bytes) => panic!("{} bytes, whole", bytes.len()),
    }
}

#[test]
fn a_file_that_is_added_is_read_as_it_was_and_by_nobody_else() {
    let place = Place::new("added");
    let folder = place.folder();
    let content = add(&folder, b"welcome");
    assert_eq!(fs::read(folder.path(content)).unwrap(), b"welcome");
    assert_eq!(folder.list().unwrap().into_iter().collect::<Vec<_>>(), [(content, 7)]);
    assert_eq!(folder.verify(content).unwrap(), 7);
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder.path(content)), 0o600);
    assert_eq!(mode(folder.path(content).parent().unwrap()), 0o700);
    assert_eq!(mode(&place.root()), 0o700);
    // The same once more is the same.
    assert_eq!(add(&folder, b"welcome"), content);
    assert_eq!(folder.list().unwrap().len(), 1);
}

#[test]
fn what_a_user_was_sending_when_the_server_ended_is_removed() {
    let place = Place::new("left");
    let folder = place.folder();
    let staged = folder.stage(1, &mut &b"never told"[..]).unwrap();
    drop(staged);
    let count = || fs::read_dir(place.root().join("incoming")).unwrap().count();
    assert_eq!(count(), 1);
    place.folder();
    assert_eq!(count(), 0);
}

#[test]
fn everything_is_verified_and_told() {
    let place = Place::new("verify");
    let folder = place.folder();
    let (good, bad, gone) = (add(&folder, b"good"), add(&folder, b"bad"), ContentId::of(b"gone"));
    fs::write(folder.path(bad), b"bat").unwrap();
    let long = noise(1, 20_000);
    let chunks = place::cut_in(&long, 500);
    let coming = ContentId::of(&long);
    folder.begin(coming, &chunks, &[]).unwrap();
    let report = verify_all(&place.root(), [good, bad, gone]).unwrap();
    assert_eq!(report.whole.into_iter().collect::<Vec<_>>(), [(good, 4)]);
    assert_eq!(
        (report.damaged, report.missing, report.partial),
        (vec![bad], vec![gone], vec![coming])
    );
    assert!(matches!(folder.verify(bad), Err(FileError::Damaged)));
    assert!(matches!(folder.read(bad), Err(FileError::Damaged)));
    assert!(matches!(folder.tell(bad), Err(FileError::Damaged)));
    assert!(matches!(folder.tell(gone), Err(FileError::Missing)));
    folder.set_aside(bad).unwrap();
    assert_eq!(folder.list().unwrap().len(), 1);
    assert_eq!(fs::read(place.root().join("damaged").join(bad.to_string())).unwrap(), b"bat");
}

#[test]
fn what_has_come_is_not_fetched_again_wherever_it_was_cut_off() {
    let (here, there) = (Place::new("cut-here"), Place::new("cut-there"));
    let (from, to) = (here.folder(), there.folder());
    let long = noise(2, 30_000);
    let content = add(&from, &long);
    let chunks = recipe(&from, content);
    assert!(chunks.len() > 10, "{}", chunks.len());
    for stop in 0..=chunks.len() {
        to.discard(content).unwrap();
        assert_eq!(to.resume(content, 30_000).unwrap(), None);
        let plan = to.begin(content, &chunks, &[]).unwrap();
        assert_eq!(plan.lacking.len(), chunks.len());
        for (offset, bytes) in plan.lacking.iter().take(stop) {
            let part = from.read_part(content, *offset, *bytes as usize).unwrap();
            assert_eq!(to.keep(content, &plan, *offset, &part).unwrap(), Kept::Good);
        }
        // Another life.
        let to = there.folder();
        let plan = to.resume(content, 30_000).unwrap().unwrap();
        assert_eq!(plan.lacking.len(), chunks.len() - stop);
        for (offset, bytes) in &plan.lacking {
            let part = from.read_part(content, *offset, *bytes as usize).unwrap();
            assert_eq!(to.keep(content, &plan, *offset, &part).unwrap(), Kept::Good);
        }
        assert_eq!(to.finish(content).unwrap(), Finished::Whole);
        assert_eq!(fs::read(to.path(content)).unwrap(), long);
        assert_eq!(to.partial().unwrap(), []);
        to.delete(content).unwrap();
    }
}

#[test]
fn garbage_is_not_kept_and_a_wrong_list_gives_nothing_a_name() {
    let place = Place::new("garbage");
    let folder = place.folder();
    let (long, other) = (noise(3, 20_000), noise(4, 20_000));
    let (content, chunks) = (ContentId::of(&long), place::cut_in(&other, 1_000));
    // The list is that of another content: every chunk is what the list says.
    let plan = folder.begin(content, &chunks, &[]).unwrap();
    assert_eq!(folder.keep(content, &plan, 0, &long[..1_000]).unwrap(), Kept::Garbage);
    assert_eq!(folder.keep(content, &plan, 1, &other[..1_000]).unwrap(), Kept::Garbage);
    for (offset, bytes) in &plan.lacking {
        let at = usize::try_from(*offset).unwrap();
        let part = &other[at..at + *bytes as usize];
        assert_eq!(folder.keep(content, &plan, *offset, part).unwrap(), Kept::Good);
    }
    assert_eq!(folder.finish(content).unwrap(), Finished::Garbage);
    assert_eq!(folder.keep_whole(content, b"short").unwrap(), Finished::Garbage);
    assert_eq!((folder.list().unwrap().len(), folder.partial().unwrap()), (0, vec![]));
}

#[test]
fn a_new_version_takes_over_what_it_has_in_common_with_the_one_before() {
    let (here, there) = (Place::new("next-here"), Place::new("next-there"));
    let (from, to) = (here.folder(), there.folder());
    let mut long = noise(5, 60_000);
    let before = add(&to, &long);
    long.splice(30_000..30_000, *b"three words more");
    let content = add(&from, &long);
    let chunks = recipe(&from, content);
    let plan = to.begin(content, &chunks, &[before]).unwrap();
    assert!((1..=4).contains(&plan.lacking.len()), "{} of {}", plan.lacking.len(), chunks.len());
    assert!(plan.here_bytes > 50_000, "{}", plan.here_bytes);
    // A damaged one gives nothing that is wrong.
    to.discard(content).unwrap();
    fs::write(to.path(before), noise(6, 60_000)).unwrap();
    assert_eq!(to.begin(content, &chunks, &[before]).unwrap().lacking.len(), chunks.len());
}

#[test]
fn the_disk_is_not_filled_to_the_brim() {
    let place = Place::new("full");
    let folder = Folder::open(&place.root()).unwrap().with(SMALL, |_| Ok(ROOM_KEPT_BYTES + 999));
    let refused = folder.stage(1, &mut &noise(7, 1_000)[..]);
    assert!(matches!(refused, Err(FileError::NoRoom { .. })), "{refused:?}");
    assert!(refused.unwrap_err().to_string().contains("kept for the databases"));
    assert_eq!(fs::read_dir(place.root().join("incoming")).unwrap().count(), 0);
    let content = ContentId::of(&noise(7, 1_000));
    assert!(matches!(folder.keep_whole(content, &noise(7, 1_000)), Err(FileError::NoRoom { .. })));
    assert!(folder.begin(content, &place::cut_in(&noise(7, 1_000), 100), &[]).is_err());
    assert!(folder.stage(2, &mut &noise(7, 999)[..]).is_ok());
}

#[test]
fn a_file_longer_than_the_limit_is_refused() {
    assert!(check_length(FILE_BYTES_MAX).is_ok());
    let error = check_length(FILE_BYTES_MAX + 1).unwrap_err();
    assert!(error.to_string().contains("2048 MiB"), "{error}");
}

/// How a content gets its name.
type Way = fn(&Folder, ContentId, &[Chunk], &[u8]) -> Result<(), FileError>;

#[test]
fn what_has_a_name_was_on_the_disk_before_wherever_the_disk_fails() {
    let long = noise(8, 5_000);
    let (content, chunks) = (ContentId::of(&long), place::cut_in(&long, 1_000));
    // Ways to a name: a user's file, one that came in parts, one that came whole.
    let ways: [Way; 3] = [
        |folder, _, _, long| folder.adopt(&folder.stage(1, &mut &long[..])?),
        |folder, content, chunks, long| {
            let plan = match folder.resume(content, 5_000)? {
                Some(plan) => plan,
                None => folder.begin(content, chunks, &[])?,
            };
            for (offset, bytes) in &plan.lacking {
                let at = usize::try_from(*offset).unwrap();
                folder.keep(content, &plan, *offset, &long[at..at + *bytes as usize])?;
            }
            folder.finish(content).map(|_| ())
        },
        |folder, content, _, long| folder.keep_whole(content, long).map(|_| ()),
    ];
    for (number, way) in ways.iter().enumerate() {
        // Each of its syncs, and none.
        for fails in [1, 2, 3, 99] {
            let place = Place::new("synced");
            // What was synced, and whether the content had its name then.
            let seen: Arc<Mutex<Vec<(bool, bool)>>> = Arc::default();
            let (noted, named) = (Arc::clone(&seen), place.folder().path(content));
            let folder = place.folder().with_sync(move |file, _| {
                let mut noted = noted.lock().unwrap();
                noted.push((file.metadata()?.is_dir(), named.exists()));
                if noted.len() == fails { Err(io::Error::other("failed")) } else { Ok(()) }
            });
            let first = way(&folder, content, &chunks, &long);
            // First the file without its name, then the folders with it.
            let order = [(false, false), (true, true), (true, true)];
            let seen = seen.lock().unwrap().clone();
            assert_eq!(seen, order[..fails.min(3)], "way {number}");
            assert_eq!(first.is_err(), fails < 99, "way {number}: {first:?}");
            if fails == 1 {
                // What can be read of it may be in memory only: it has to come again.
                assert!(!folder.path(content).exists());
                assert_eq!(folder.resume(content, 5_000).unwrap(), None, "way {number}");
            }
            way(&folder, content, &chunks, &long).unwrap();
            assert_eq!(folder.verify(content).unwrap(), 5_000);
            assert_eq!(folder.partial().unwrap(), [], "way {number}");
        }
    }
}

#[test]
fn what_the_disk_does_not_read_is_damaged() {
    let place = Place::new("unread");
    let folder = place.folder();
    let content = add(&folder, b"on a bad sector");
    let path = folder.path(content);
    // Opened, and not read: as a file on a bad sector.
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(matches!(folder.verify(content), Err(FileError::Damaged)));
    assert!(folder.tell(content).is_err());
    folder.set_aside(content).unwrap();
    assert_eq!(add(&folder, b"on a bad sector"), content);
}

#[test]
fn a_link_to_elsewhere_is_no_content() {
    let (place, outside) = (Place::new("link"), Place::new("outside"));
    let folder = place.folder();
    let (content, gone) = (add(&folder, b"welcome"), ContentId::of(b"gone"));
    let path = folder.path(content);
    fs::create_dir(outside.root()).unwrap();
    let target = outside.root().join("welcome");
    fs::rename(&path, &target).unwrap();
    symlink(&target, &path).unwrap();
    fs::create_dir_all(folder.path(gone).parent().unwrap()).unwrap();
    symlink(outside.root().join("nothing"), folder.path(gone)).unwrap();
    assert_eq!(folder.list().unwrap().len(), 0);
    assert_eq!(verify_all(&place.root(), [content]).unwrap().missing, [content]);
    // What comes takes its place, and nothing is written where it leads to.
    fs::write(&target, b"others'").unwrap();
    folder.keep_whole(content, b"welcome").unwrap();
    assert_eq!((fs::read(&path).unwrap(), folder.list().unwrap().len()), (b"welcome".to_vec(), 1));
    assert_eq!(fs::read(&target).unwrap(), b"others'");
}
