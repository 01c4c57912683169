//! The C interface through which SQLite reaches a [`crate::Disk`]: the only `unsafe` of this crate.
//!
//! Registered once for the process, as the default: files below a mounted folder are opened here,
//! all others by SQLite's own file system. SQLite's promises, on which every SAFETY comment rests
//! (sqlite.org/c3ref/io_methods.html, c3ref/vfs.html): pointers that it passes are valid for the call; a
//! `sqlite3_file` is `szOsFile` bytes of its own memory, aligned, used by one thread at a time, and
//! passed to no method after `xClose`.

#![allow(unsafe_code, reason = "SQLite asks for files through C")]

use std::collections::BTreeMap;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};

use rusqlite::ffi;

use crate::disk::{Error, State, lock};
use crate::files::Step;
use crate::locks::{Level, Locks};

/// Its name in SQLite, with the zero that C wants.
const NAME: &CStr = c"tandem-faults";

/// Bytes of a region of shared memory; SQLite asks for no other size.
const REGION_BYTES: usize = 32 * 1024;

/// Bytes that a disk writes as a whole, as SQLite's own file system says.
const SECTOR_BYTES: c_int = 4096;

/// The disks, by folder.
static MOUNTED: Mutex<BTreeMap<PathBuf, Arc<Mutex<State>>>> = Mutex::new(BTreeMap::new());

fn mounted() -> MutexGuard<'static, BTreeMap<PathBuf, Arc<Mutex<State>>>> {
    MOUNTED.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn mount(folder: &Path, state: &Arc<Mutex<State>>) {
    static ONCE: Once = Once::new();
    ONCE.call_once(register);
    let before = mounted().insert(folder.to_owned(), Arc::clone(state));
    assert!(before.is_none(), "{} has a disk already", folder.display());
}

pub(crate) fn unmount(folder: &Path) {
    mounted().remove(folder);
}

/// What the connections to one file share.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    locks: Locks,
    regions: Vec<Region>,
    users: u64,
}

/// Shared memory. Raw, because SQLite writes to it from several threads, in order by its own locks.
#[derive(Debug)]
struct Region(*mut [u64]);

// SAFETY: nothing here reads or writes the memory; it is only made, passed to SQLite, and freed.
unsafe impl Send for Region {}

impl Region {
    fn new() -> Self {
        Self(Box::into_raw(vec![0_u64; REGION_BYTES / 8].into_boxed_slice()))
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: made by `Box::into_raw` above, and freed once, here; SQLite has unmapped it, or the
        // disk is gone, which outlives every connection.
        drop(unsafe { Box::from_raw(self.0) });
    }
}

/// An open file, behind the part of it that SQLite knows.
#[repr(C)]
struct Opened {
    base: ffi::sqlite3_file,
    inner: *mut Inner,
}

struct Inner {
    state: Arc<Mutex<State>>,
    name: String,
    who: u64,
    /// The first sync makes its name durable, as SQLite's own file system does for logs.
    syncs_folder: bool,
    maps: bool,
}

fn register() {
    // SAFETY: asks for the default file system, which is never unregistered. It is copied, and what is
    // not replaced below does not look at the structure that it is called with. Name and structure live
    // as long as the process.
    let result = unsafe {
        let usual = ffi::sqlite3_vfs_find(std::ptr::null());
        let mut vfs = *usual;
        let ours = c_int::try_from(size_of::<Opened>()).unwrap_or(c_int::MAX);
        vfs.szOsFile = vfs.szOsFile.max(ours);
        vfs.iVersion = 2;
        vfs.pNext = std::ptr::null_mut();
        vfs.zName = NAME.as_ptr();
        vfs.pAppData = usual.cast();
        vfs.xOpen = Some(open);
        vfs.xDelete = Some(delete);
        vfs.xAccess = Some(access);
        vfs.xFullPathname = Some(full_pathname);
        ffi::sqlite3_vfs_register(Box::into_raw(Box::new(vfs)), 1)
    };
    assert_eq!(result, ffi::SQLITE_OK, "SQLite refuses the file system");
}

static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    iVersion: 2,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock_file),
    xUnlock: Some(unlock_file),
    xCheckReservedLock: Some(check_reserved_lock),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(device_characteristics),
    xShmMap: Some(shm_map),
    xShmLock: Some(shm_lock),
    xShmBarrier: Some(shm_barrier),
    xShmUnmap: Some(shm_unmap),
    xFetch: None,
    xUnfetch: None,
};

/// SQLite's own file system, which opens what is on none of our disks.
unsafe fn usual(vfs: *mut ffi::sqlite3_vfs) -> *mut ffi::sqlite3_vfs {
    // SAFETY: `register` put it there.
    unsafe { (*vfs).pAppData.cast() }
}

/// The disk that a path lies on, and the path as a name.
unsafe fn disk_of(path: *const c_char) -> Option<(Arc<Mutex<State>>, String)> {
    if path.is_null() {
        return None;
    }
    // SAFETY: SQLite passes a string that ends in zero.
    let path = unsafe { CStr::from_ptr(path) }.to_str().ok()?;
    let disk = mounted().get(Path::new(path).parent()?).cloned()?;
    let name = Path::new(path).file_name()?.to_str()?;
    Some((disk, name.to_owned()))
}

unsafe extern "C" fn open(
    vfs: *mut ffi::sqlite3_vfs,
    path: ffi::sqlite3_filename,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out: *mut c_int,
) -> c_int {
    // SAFETY: as promised by SQLite; `file` has room for either kind of file.
    unsafe {
        let Some((state, name)) = disk_of(path) else {
            let usual = usual(vfs);
            return match (*usual).xOpen {
                Some(open) => open(usual, path, file, flags, out),
                None => ffi::SQLITE_CANTOPEN,
            };
        };
        (*file).pMethods = std::ptr::null();
        let makes = flags & ffi::SQLITE_OPEN_CREATE != 0;
        let who = {
            let mut state = lock(&state);
            if state.files.bytes(&name).is_none() {
                if !makes {
                    return ffi::SQLITE_CANTOPEN;
                }
                if let Err(error) = state.step(Step::Make { file: name.clone() }) {
                    return code(error, ffi::SQLITE_CANTOPEN);
                }
            }
            state.opened()
        };
        let logs = ffi::SQLITE_OPEN_WAL | ffi::SQLITE_OPEN_MAIN_JOURNAL;
        let syncs_folder = makes && flags & logs != 0;
        let inner = Inner { state, name, who, syncs_folder, maps: false };
        let inner = Box::into_raw(Box::new(inner));
        file.cast::<Opened>()
            .write(Opened { base: ffi::sqlite3_file { pMethods: &METHODS }, inner });
        if !out.is_null() {
            *out = flags;
        }
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn delete(
    vfs: *mut ffi::sqlite3_vfs,
    path: *const c_char,
    folder: c_int,
) -> c_int {
    // SAFETY: as promised by SQLite.
    unsafe {
        let Some((state, file)) = disk_of(path) else {
            let usual = usual(vfs);
            return (*usual).xDelete.map_or(ffi::SQLITE_OK, |delete| delete(usual, path, folder));
        };
        let mut state = lock(&state);
        if state.files.bytes(&file).is_none() {
            return ffi::SQLITE_IOERR_DELETE_NOENT;
        }
        done(state.step(Step::Delete { file, folder: folder != 0 }), ffi::SQLITE_IOERR_DELETE)
    }
}

unsafe extern "C" fn access(
    vfs: *mut ffi::sqlite3_vfs,
    path: *const c_char,
    flags: c_int,
    out: *mut c_int,
) -> c_int {
    // SAFETY: as promised by SQLite.
    unsafe {
        let Some((state, name)) = disk_of(path) else {
            let usual = usual(vfs);
            let access = (*usual).xAccess;
            return access.map_or(ffi::SQLITE_OK, |access| access(usual, path, flags, out));
        };
        let state = lock(&state);
        // As SQLite's own: an empty file does not count where it is asked whether there is one.
        let exists = |bytes: &[u8]| flags != ffi::SQLITE_ACCESS_EXISTS || !bytes.is_empty();
        *out = c_int::from(state.files.bytes(&name).is_some_and(exists));
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn full_pathname(
    vfs: *mut ffi::sqlite3_vfs,
    path: *const c_char,
    length: c_int,
    out: *mut c_char,
) -> c_int {
    // SAFETY: passed on as it came.
    unsafe {
        let usual = usual(vfs);
        (*usual).xFullPathname.map_or(ffi::SQLITE_ERROR, |full| full(usual, path, length, out))
    }
}

/// The file that a method is called for.
unsafe fn inner<'a>(file: *mut ffi::sqlite3_file) -> &'a mut Inner {
    // SAFETY: methods are only called for files that `open` has written, and by one thread at a time.
    unsafe { &mut *(*file.cast::<Opened>()).inner }
}

fn code(error: Error, io: c_int) -> c_int {
    match error {
        Error::Io | Error::IoAndForgotten => io,
        Error::Full => ffi::SQLITE_FULL,
    }
}

fn done(result: Result<(), Error>, io: c_int) -> c_int {
    match result {
        Ok(()) => ffi::SQLITE_OK,
        Err(error) => code(error, io),
    }
}

/// An offset or a length as SQLite passes it. Never negative.
fn size(number: impl TryInto<usize>) -> usize {
    number.try_into().unwrap_or(0)
}

unsafe extern "C" fn close(file: *mut ffi::sqlite3_file) -> c_int {
    // SAFETY: the last call for this file: `open` made the box, and it is freed here.
    let inner = unsafe { Box::from_raw((*file.cast::<Opened>()).inner) };
    let mut state = lock(&inner.state);
    if let Some(shared) = state.shared.get_mut(&inner.name) {
        shared.locks.leave(inner.who);
    }
    state.closed();
    ffi::SQLITE_OK
}

unsafe extern "C" fn read(
    file: *mut ffi::sqlite3_file,
    to: *mut c_void,
    count: c_int,
    at: ffi::sqlite3_int64,
) -> c_int {
    // SAFETY: SQLite gives room for `count` bytes; they are set before they are looked at.
    let (inner, to) = unsafe {
        std::ptr::write_bytes(to.cast::<u8>(), 0, size(count));
        (inner(file), std::slice::from_raw_parts_mut(to.cast::<u8>(), size(count)))
    };
    match lock(&inner.state).read(&inner.name, size(at), to) {
        Ok(read) if read == to.len() => ffi::SQLITE_OK,
        Ok(_) => ffi::SQLITE_IOERR_SHORT_READ,
        Err(error) => code(error, ffi::SQLITE_IOERR_READ),
    }
}

unsafe extern "C" fn write(
    file: *mut ffi::sqlite3_file,
    from: *const c_void,
    count: c_int,
    at: ffi::sqlite3_int64,
) -> c_int {
    // SAFETY: SQLite passes `count` bytes.
    let (inner, bytes) =
        unsafe { (inner(file), std::slice::from_raw_parts(from.cast::<u8>(), size(count))) };
    let step = Step::Write { file: inner.name.clone(), at: size(at), bytes: bytes.to_vec() };
    done(lock(&inner.state).step(step), ffi::SQLITE_IOERR_WRITE)
}

unsafe extern "C" fn truncate(file: *mut ffi::sqlite3_file, length: ffi::sqlite3_int64) -> c_int {
    // SAFETY: see `inner`.
    let inner = unsafe { inner(file) };
    let step = Step::Cut { file: inner.name.clone(), length: size(length) };
    done(lock(&inner.state).step(step), ffi::SQLITE_IOERR_TRUNCATE)
}

unsafe extern "C" fn sync(file: *mut ffi::sqlite3_file, _flags: c_int) -> c_int {
    // SAFETY: see `inner`.
    let inner = unsafe { inner(file) };
    let step = Step::Sync { file: inner.name.clone(), folder: inner.syncs_folder };
    let result = lock(&inner.state).step(step);
    inner.syncs_folder &= result.is_err();
    done(result, ffi::SQLITE_IOERR_FSYNC)
}

unsafe extern "C" fn file_size(
    file: *mut ffi::sqlite3_file,
    out: *mut ffi::sqlite3_int64,
) -> c_int {
    // SAFETY: as promised by SQLite.
    unsafe {
        let inner = inner(file);
        let length = lock(&inner.state).files.bytes(&inner.name).map_or(0, <[u8]>::len);
        *out = i64::try_from(length).unwrap_or(i64::MAX);
    }
    ffi::SQLITE_OK
}

fn level(of: c_int) -> Level {
    match of {
        ffi::SQLITE_LOCK_SHARED => Level::Shared,
        ffi::SQLITE_LOCK_RESERVED => Level::Reserved,
        ffi::SQLITE_LOCK_PENDING => Level::Pending,
        ffi::SQLITE_LOCK_EXCLUSIVE => Level::Exclusive,
        _ => Level::None,
    }
}

unsafe extern "C" fn lock_file(file: *mut ffi::sqlite3_file, to: c_int) -> c_int {
    // SAFETY: see `inner`.
    let inner = unsafe { inner(file) };
    let mut state = lock(&inner.state);
    let shared = state.shared.entry(inner.name.clone()).or_default();
    if shared.locks.raise(inner.who, level(to)) { ffi::SQLITE_OK } else { ffi::SQLITE_BUSY }
}

unsafe extern "C" fn unlock_file(file: *mut ffi::sqlite3_file, to: c_int) -> c_int {
    // SAFETY: see `inner`.
    let inner = unsafe { inner(file) };
    let mut state = lock(&inner.state);
    let shared = state.shared.entry(inner.name.clone()).or_default();
    shared.locks.lower(inner.who, level(to));
    ffi::SQLITE_OK
}

unsafe extern "C" fn check_reserved_lock(file: *mut ffi::sqlite3_file, out: *mut c_int) -> c_int {
    // SAFETY: as promised by SQLite.
    unsafe {
        let inner = inner(file);
        let state = lock(&inner.state);
        let shared = state.shared.get(&inner.name);
        *out = c_int::from(shared.is_some_and(|shared| shared.locks.is_reserved(inner.who)));
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn file_control(
    _file: *mut ffi::sqlite3_file,
    _what: c_int,
    _with: *mut c_void,
) -> c_int {
    ffi::SQLITE_NOTFOUND
}

unsafe extern "C" fn sector_size(_file: *mut ffi::sqlite3_file) -> c_int {
    SECTOR_BYTES
}

unsafe extern "C" fn device_characteristics(_file: *mut ffi::sqlite3_file) -> c_int {
    // As SQLite's own file system on Unix: bytes beside a write do not suffer from it.
    ffi::SQLITE_IOCAP_POWERSAFE_OVERWRITE
}

unsafe extern "C" fn shm_map(
    file: *mut ffi::sqlite3_file,
    number: c_int,
    bytes: c_int,
    extend: c_int,
    out: *mut *mut c_void,
) -> c_int {
    // SAFETY: as promised by SQLite.
    unsafe {
        let inner = inner(file);
        if size(bytes) != REGION_BYTES {
            return ffi::SQLITE_IOERR_SHMSIZE;
        }
        let mut state = lock(&inner.state);
        let shared = state.shared.entry(inner.name.clone()).or_default();
        if !std::mem::replace(&mut inner.maps, true) {
            shared.users += 1;
        }
        while extend != 0 && shared.regions.len() <= size(number) {
            shared.regions.push(Region::new());
        }
        let region = shared.regions.get(size(number));
        *out = region.map_or(std::ptr::null_mut(), |region| region.0.cast());
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn shm_lock(
    file: *mut ffi::sqlite3_file,
    from: c_int,
    count: c_int,
    flags: c_int,
) -> c_int {
    // SAFETY: see `inner`.
    let inner = unsafe { inner(file) };
    let mut state = lock(&inner.state);
    let locks = &mut state.shared.entry(inner.name.clone()).or_default().locks;
    let exclusive = flags & ffi::SQLITE_SHM_EXCLUSIVE != 0;
    if flags & ffi::SQLITE_SHM_UNLOCK != 0 {
        locks.give(inner.who, size(from), size(count), exclusive);
        ffi::SQLITE_OK
    } else if locks.take(inner.who, size(from), size(count), exclusive) {
        ffi::SQLITE_OK
    } else {
        ffi::SQLITE_BUSY
    }
}

unsafe extern "C" fn shm_barrier(_file: *mut ffi::sqlite3_file) {
    std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
}

unsafe extern "C" fn shm_unmap(file: *mut ffi::sqlite3_file, _delete: c_int) -> c_int {
    // SAFETY: see `inner`.
    let inner = unsafe { inner(file) };
    let mut state = lock(&inner.state);
    if let Some(shared) = state.shared.get_mut(&inner.name)
        && std::mem::replace(&mut inner.maps, false)
    {
        shared.users -= 1;
        if shared.users == 0 {
            // The next one to come makes it anew, from what is on the disk.
            shared.regions.clear();
        }
    }
    ffi::SQLITE_OK
}
