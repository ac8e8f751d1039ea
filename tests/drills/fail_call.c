/* Fails one file call of one process, for the drills: built by preload.py, loaded by LD_PRELOAD.
 *
 * In: a control file named by DRILL_CONTROL, mapped and shared: which process, which call (the k-th
 * on a path below the given folder), how it fails. Out: in the same file, how many calls there were
 * and which one failed.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum mode { COUNT, KILL, FULL, BROKEN, INTERRUPTED, SHORT, DENIED, QUOTA, PARTIAL_KILL };

/* preload.py has the same layout. */
struct control {
    int process, target, mode, count, fired;
    char call[44];
    char path[512];
    char folder[512];
};

static struct control *control;

__attribute__((constructor)) static void map_control(void) {
    const char *name = getenv("DRILL_CONTROL");
    if (!name) return;
    int file = syscall(SYS_openat, AT_FDCWD, name, O_RDWR | O_CLOEXEC, 0);
    if (file < 0) return;
    void *found = (void *)syscall(SYS_mmap, NULL, sizeof *control, PROT_READ | PROT_WRITE,
                                  MAP_SHARED, file, 0);
    syscall(SYS_close, file);
    if (found != MAP_FAILED) control = found;
}

static void *real(const char *name) { return dlsym(RTLD_NEXT, name); }
#define REAL(type, name) \
    static __typeof__(type) original; \
    if (!original) original = (type)real(name)

static int armed(void) { return control && control->process == (int)syscall(SYS_getpid); }

static int below(const char *path) {
    size_t length = strlen(control->folder);
    return length && !strncmp(path, control->folder, length);
}

/* The path of a name at a folder's descriptor; links are not followed. */
static void path_at(int folder, const char *name, char *out) {
    char base[PATH_MAX] = "";
    if (name[0] != '/') {
        char link[64];
        snprintf(link, sizeof link, folder == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d",
                 folder);
        ssize_t size = readlink(link, base, sizeof base - 2);
        if (size < 0) size = 0;
        base[size] = '/';
        base[size + 1] = 0;
    }
    snprintf(out, PATH_MAX, "%s%s", base, name);
}

static void path_of(int file, char *out) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t size = readlink(link, out, PATH_MAX - 1);
    out[size < 0 ? 0 : size] = 0;
}

static void kill_self(void) {
    syscall(SYS_kill, syscall(SYS_getpid), SIGKILL);
    for (;;) pause();
}

/* How this call fails: COUNT where it does not. A full disk stays full. `grows`: it needs room. */
static enum mode fate(const char *call, const char *path, int grows) {
    if (!below(path)) return COUNT;
    int number = __sync_add_and_fetch(&control->count, 1);
    if (control->mode == COUNT || number < control->target) return COUNT;
    int stays = control->mode == FULL || control->mode == QUOTA;
    if (number > control->target && !(stays && grows)) return COUNT;
    if (number == control->target) {
        control->fired = 1;
        snprintf(control->call, sizeof control->call, "%s", call);
        snprintf(control->path, sizeof control->path, "%.511s", path);
    }
    if (control->mode == KILL) kill_self();
    return control->mode;
}

static int error_of(enum mode mode) {
    switch (mode) {
        case FULL: return ENOSPC;
        case BROKEN: return EIO;
        case INTERRUPTED: return EINTR;
        case DENIED: return EACCES;
        case QUOTA: return EDQUOT;
        default: return 0;
    }
}

/* The result of a call that is not a write: PARTIAL_KILL does it and kills after it. */
#define FAIL_OR(call, path, grows, done) \
    do { \
        enum mode mode = fate(call, path, grows); \
        int error = error_of(mode); \
        if (error) { errno = error; return -1; } \
        __typeof__(done) result = (done); \
        if (mode == PARTIAL_KILL) kill_self(); \
        return result; \
    } while (0)

#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        va_list more; va_start(more, flags); mode_t mode_ = va_arg(more, mode_t); va_end(more); \
        REAL(int (*)(const char *, int, ...), #name); \
        if (!armed()) return original(path, flags, mode_); \
        char full[PATH_MAX + 8]; path_at(AT_FDCWD, path, full); \
        FAIL_OR("open", full, flags & O_CREAT, original(path, flags, mode_)); \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name) \
    int name(int folder, const char *path, int flags, ...) { \
        va_list more; va_start(more, flags); mode_t mode_ = va_arg(more, mode_t); va_end(more); \
        REAL(int (*)(int, const char *, int, ...), #name); \
        if (!armed()) return original(folder, path, flags, mode_); \
        char full[PATH_MAX + 8]; path_at(folder, path, full); \
        FAIL_OR("openat", full, flags & O_CREAT, original(folder, path, flags, mode_)); \
    }
OPENAT(openat)
OPENAT(openat64)

ssize_t write(int file, const void *data, size_t size) {
    REAL(ssize_t (*)(int, const void *, size_t), "write");
    if (!armed()) return original(file, data, size);
    char path[PATH_MAX]; path_of(file, path);
    enum mode mode = fate("write", path, 1);
    if (error_of(mode)) { errno = error_of(mode); return -1; }
    if (mode == SHORT || mode == PARTIAL_KILL) size = (size + 1) / 2;
    ssize_t done = original(file, data, size);
    if (mode == PARTIAL_KILL) kill_self();
    return done;
}

#define PWRITE(name) \
    ssize_t name(int file, const void *data, size_t size, off64_t at) { \
        REAL(ssize_t (*)(int, const void *, size_t, off64_t), #name); \
        if (!armed()) return original(file, data, size, at); \
        char path[PATH_MAX]; path_of(file, path); \
        enum mode mode = fate("pwrite", path, 1); \
        if (error_of(mode)) { errno = error_of(mode); return -1; } \
        if (mode == SHORT || mode == PARTIAL_KILL) size = (size + 1) / 2; \
        ssize_t done = original(file, data, size, at); \
        if (mode == PARTIAL_KILL) kill_self(); \
        return done; \
    }
PWRITE(pwrite)
PWRITE(pwrite64)

ssize_t writev(int file, const struct iovec *parts, int count) {
    REAL(ssize_t (*)(int, const struct iovec *, int), "writev");
    if (!armed()) return original(file, parts, count);
    char path[PATH_MAX]; path_of(file, path);
    enum mode mode = fate("writev", path, 1);
    if (error_of(mode)) { errno = error_of(mode); return -1; }
    if (mode == SHORT || mode == PARTIAL_KILL) count = (count + 1) / 2;
    ssize_t done = original(file, parts, count);
    if (mode == PARTIAL_KILL) kill_self();
    return done;
}

#define ON_FILE(name) \
    int name(int file) { \
        REAL(int (*)(int), #name); \
        if (!armed()) return original(file); \
        char path[PATH_MAX]; path_of(file, path); \
        FAIL_OR(#name, path, 0, original(file)); \
    }
ON_FILE(fsync)
ON_FILE(fdatasync)

/* Linux closes the file whatever close returns; closing a file that was only read does not fail. */
int close(int file) {
    REAL(int (*)(int), "close");
    if (!armed() || (syscall(SYS_fcntl, file, F_GETFL) & O_ACCMODE) == O_RDONLY)
        return original(file);
    char path[PATH_MAX]; path_of(file, path);
    enum mode mode = fate("close", path, 0);
    int done = original(file);
    if (mode == PARTIAL_KILL) kill_self();
    if (error_of(mode)) { errno = error_of(mode); return -1; }
    return done;
}

#define TRUNCATE(name) \
    int name(int file, off64_t size) { \
        REAL(int (*)(int, off64_t), #name); \
        if (!armed()) return original(file, size); \
        char path[PATH_MAX]; path_of(file, path); \
        FAIL_OR("ftruncate", path, 1, original(file, size)); \
    }
TRUNCATE(ftruncate)
TRUNCATE(ftruncate64)

int rename(const char *from, const char *to) {
    REAL(int (*)(const char *, const char *), "rename");
    if (!armed()) return original(from, to);
    char path[PATH_MAX + 8]; path_at(AT_FDCWD, to, path);
    FAIL_OR("rename", path, 0, original(from, to));
}

int renameat2(int from_folder, const char *from, int to_folder, const char *to, unsigned flags) {
    REAL(int (*)(int, const char *, int, const char *, unsigned), "renameat2");
    if (!armed()) return original(from_folder, from, to_folder, to, flags);
    char path[PATH_MAX + 8]; path_at(to_folder, to, path);
    FAIL_OR("renameat2", path, 0, original(from_folder, from, to_folder, to, flags));
}

int mkdir(const char *name, mode_t mode_) {
    REAL(int (*)(const char *, mode_t), "mkdir");
    if (!armed()) return original(name, mode_);
    char path[PATH_MAX + 8]; path_at(AT_FDCWD, name, path);
    FAIL_OR("mkdir", path, 1, original(name, mode_));
}

int unlink(const char *name) {
    REAL(int (*)(const char *), "unlink");
    if (!armed()) return original(name);
    char path[PATH_MAX + 8]; path_at(AT_FDCWD, name, path);
    FAIL_OR("unlink", path, 0, original(name));
}

int unlinkat(int folder, const char *name, int flags) {
    REAL(int (*)(int, const char *, int), "unlinkat");
    if (!armed()) return original(folder, name, flags);
    char path[PATH_MAX + 8]; path_at(folder, name, path);
    FAIL_OR("unlinkat", path, 0, original(folder, name, flags));
}

#define MAP(name) \
    void *name(void *where, size_t size, int allowed, int flags, int file, off64_t at) { \
        REAL(void *(*)(void *, size_t, int, int, int, off64_t), #name); \
        if (file < 0 || !armed()) return original(where, size, allowed, flags, file, at); \
        char path[PATH_MAX]; path_of(file, path); \
        enum mode mode = fate("mmap", path, 0); \
        if (error_of(mode)) { errno = error_of(mode); return MAP_FAILED; } \
        void *done = original(where, size, allowed, flags, file, at); \
        if (mode == PARTIAL_KILL) kill_self(); \
        return done; \
    }
MAP(mmap)
MAP(mmap64)
