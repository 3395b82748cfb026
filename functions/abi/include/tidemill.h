/*
 * The contract between Tidemill and a native plugin, for C and all that can read C.
 *
 * A plugin is a shared library that exports
 *
 *     const tidemill_plugin_table *tidemill_plugin(void);
 *
 * Rules
 * - Nobody frees anybody's memory. Every slice that crosses is borrowed. What the host passes in is valid until
 *   the call returns; what a plugin passes to a callback is copied before the callback returns. An instance is
 *   made by `init` and destroyed by `drop` of the same handler.
 * - A slice whose pointer is NULL is absent (Kafka's null), whatever its length; one with a pointer and length 0
 *   is empty. Text is UTF-8 without a terminating zero.
 * - Every table begins with its size and the version. A table may grow at its end within a version: look at `size`
 *   before you read a field that the first release of that version did not have. A list of such tables is
 *   one of pointers, since only their owner knows how far apart they are.
 * - An instance may move to another thread between calls, but no two calls of it overlap. Callbacks are for the
 *   calling thread, while the call lasts.
 * - Nothing unwinds across: no exception may leave a plugin's function.
 */
#ifndef TIDEMILL_H
#define TIDEMILL_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The version of this contract. */
#define TIDEMILL_VERSION 1u

/* Results of `init`, `handle` and `on_window`. */
#define TIDEMILL_OK 0     /* done */
#define TIDEMILL_SKIP 1   /* not of `init`: deliberately not handled; what it emitted is dropped, the call counted */
#define TIDEMILL_RETRY 2  /* it may go well later; say why with host->fail */
#define TIDEMILL_REJECT 3 /* it will never go well; say why with host->fail */
#define TIDEMILL_PANIC 4  /* the handler's code broke; a new instance is made before the next call */

/* Answers of callbacks. */
#define TIDEMILL_FOUND 0     /* done, or found */
#define TIDEMILL_ABSENT 1    /* header, attribute and their like for windows: there is none */
#define TIDEMILL_TOO_LARGE 2 /* emit: it does not fit, nothing was emitted */
#define TIDEMILL_INVALID 3   /* emit: text is not UTF-8, or a field has no meaning; nothing was emitted */

/* Values of tidemill_output.key_kind. */
#define TIDEMILL_KEY_OF_EVENT 0u /* the key of the event, or of the window, that is being handled */
#define TIDEMILL_KEY_NULL 1u     /* Kafka's null key */
#define TIDEMILL_KEY_BYTES 2u    /* the bytes in tidemill_output.key */

/* Levels of host->log. */
#define TIDEMILL_LOG_ERROR 1u
#define TIDEMILL_LOG_WARN 2u
#define TIDEMILL_LOG_INFO 3u
#define TIDEMILL_LOG_DEBUG 4u

/* Borrowed bytes. */
typedef struct tidemill_slice {
    const uint8_t *pointer; /* the first byte; NULL: absent */
    size_t length;
} tidemill_slice;

/* One header of a record, in or out. */
typedef struct tidemill_header {
    tidemill_slice name;  /* UTF-8 */
    tidemill_slice value; /* absent is Kafka's null */
} tidemill_header;

/* One output. All zeros but `size` and `version` is a tombstone under the key and at the time of the event, or of the
 * window, that is being handled. */
typedef struct tidemill_output {
    uint32_t size;               /* sizeof(tidemill_output) */
    uint32_t version;            /* TIDEMILL_VERSION */
    uint32_t key_kind;           /* TIDEMILL_KEY_… */
    uint32_t has_timestamp;      /* not 0: timestamp_ms counts */
    int64_t timestamp_ms;        /* since the epoch, not negative; without one: the event's or the window's time */
    tidemill_slice sink;         /* the sink it is addressed to; absent: each sink whose filters take it */
    tidemill_slice key;          /* for TIDEMILL_KEY_BYTES */
    tidemill_slice value;        /* absent is a tombstone */
    tidemill_slice content_type; /* absent: the sink's format says */
    const tidemill_header *headers; /* may be NULL when header_count is 0; `ce_…` set CloudEvents attributes */
    size_t header_count;
} tidemill_output;

/* Why a call failed. */
typedef struct tidemill_failure {
    uint32_t size;           /* sizeof(tidemill_failure) */
    uint32_t version;        /* TIDEMILL_VERSION */
    tidemill_slice message;  /* for people, UTF-8 */
    tidemill_slice code;     /* for programs, with TIDEMILL_REJECT: a short word; may be absent */
    uint64_t retry_after_ms; /* with TIDEMILL_RETRY; 0: as the manifest says */
} tidemill_failure;

/* The host's callbacks. Each takes the `context` of the call or setup it belongs to. In the first release of this version
 * `fail` was the last; a host that calls `on_window` has those for windows. */
typedef struct tidemill_host {
    uint32_t size;
    uint32_t version;
    /* The header at `index`, in the record's order: FOUND, or ABSENT past the end, and in a call with a window. Valid
     * until the call ends. */
    int32_t (*header)(void *context, size_t index, tidemill_header *out);
    /* The CloudEvents attribute `name` as text: FOUND, or ABSENT, as always in a call with a window. Valid until the
     * call ends. */
    int32_t (*attribute)(void *context, tidemill_slice name, tidemill_slice *out);
    /* Stages an output, copied: FOUND, TOO_LARGE or INVALID. Written if the call returns OK, dropped otherwise. */
    int32_t (*emit)(void *context, const tidemill_output *output);
    /* Writes a line to the host's log. Lines may be cut or dropped when there are too many. */
    void (*log)(void *context, uint32_t level, tidemill_slice text);
    /* Adds `by` to the author's counter `name`. */
    void (*count)(void *context, tidemill_slice name, uint64_t by);
    /* Says why the call is about to return RETRY, REJECT or PANIC; copied, the last one counts. */
    void (*fail)(void *context, const tidemill_failure *failure);
    /* `header` of the event at `event` of tidemill_window.events; ABSENT past their end, and without a window. */
    int32_t (*window_header)(void *context, size_t event, size_t index, tidemill_header *out);
    /* `attribute` of the event at `event` of tidemill_window.events; ABSENT past their end, and without a window. */
    int32_t (*window_attribute)(void *context, size_t event, tidemill_slice name, tidemill_slice *out);
} tidemill_host;

/* What `init` is given; valid until it returns. */
typedef struct tidemill_setup {
    uint32_t size;
    uint32_t version;
    const tidemill_host *host; /* in `init` only `log` and `fail` do something */
    void *context;             /* first argument of every callback */
    tidemill_slice function;   /* namespace/name */
    tidemill_slice handler;    /* the handler's name */
    tidemill_slice config;     /* the manifest's `config` as JSON text; `null` when there is none */
} tidemill_setup;

/* One event; valid until `handle` or `on_window` returns. */
typedef struct tidemill_event {
    uint32_t size;
    uint32_t version;
    tidemill_slice source; /* the source's name in the manifest */
    tidemill_slice topic;
    int32_t partition;
    uint32_t reserved;
    int64_t offset;
    int64_t timestamp_ms;        /* Kafka's timestamp, since the epoch; -1: none */
    int64_t time_ms;             /* event time, since the epoch; -1: none */
    tidemill_slice key;          /* the function's key of the event; may be absent */
    tidemill_slice data;         /* the record's value, or the `data` of a structured CloudEvent; absent for null */
    tidemill_slice content_type; /* absent when unknown */
} tidemill_event;

/* One window that gives its result; valid until `on_window` returns. Times are milliseconds since the epoch. */
typedef struct tidemill_window {
    uint32_t size;
    uint32_t version;
    tidemill_slice key;        /* whose events it holds; never absent */
    int64_t start_ms;          /* may lie before the epoch */
    int64_t end_ms;            /* whether the end is in it depends on its kind */
    int64_t time_ms;           /* event time of the result */
    tidemill_slice fired;      /* why: `close`, `update`, `count`, `complete`, `timeout`; there may be more words */
    tidemill_slice aggregates; /* one JSON object with a field an aggregate; absent: it holds the events themselves */
    /* By (time, source, partition, offset). Their headers and attributes: host->window_header, window_attribute. */
    const tidemill_event *const *events;
    size_t event_count; /* 0 where there are aggregates instead */
    const tidemill_slice *missing; /* names of the needed sources that have no event */
    size_t missing_count;
} tidemill_window;

/* The circumstances of a call; valid until it returns. */
typedef struct tidemill_call {
    uint32_t size;
    uint32_t version;
    const tidemill_host *host;
    void *context;           /* first argument of every callback */
    tidemill_slice function; /* namespace/name */
    int64_t now_ms;          /* wall clock at the start of the call, since the epoch */
    int64_t deadline_ms;     /* when the call must be done, on the same clock */
    uint32_t attempt;        /* the first is 1 */
    uint32_t reserved;
} tidemill_call;

/* One handler of a plugin; lives as long as the process. In the first release of this version `drop` was the last; a
 * handler without `on_window` may leave it out of `size`. */
typedef struct tidemill_handler {
    uint32_t size;       /* sizeof(tidemill_handler) */
    uint32_t version;    /* TIDEMILL_VERSION */
    tidemill_slice name; /* the manifest's `entry`; unique in the plugin, not empty */
    /* OK and *instance set (NULL if it needs none), or RETRY, REJECT or PANIC and no instance. */
    int32_t (*init)(const tidemill_setup *setup, void **instance);
    /* OK, SKIP, RETRY, REJECT or PANIC. */
    int32_t (*handle)(void *instance, const tidemill_event *event, const tidemill_call *call);
    /* Destroys an instance that `init` made. Called once. */
    void (*drop)(void *instance);
    /* A window gives its result. OK, SKIP, RETRY, REJECT or PANIC. NULL: the handler takes no windows. */
    int32_t (*on_window)(void *instance, const tidemill_window *window, const tidemill_call *call);
} tidemill_handler;

/* What a plugin exports; lives as long as the process. */
typedef struct tidemill_plugin_table {
    uint32_t size;            /* sizeof(tidemill_plugin_table) */
    uint32_t version;         /* TIDEMILL_VERSION */
    tidemill_slice made_with; /* for messages */
    const tidemill_handler *const *handlers;
    size_t handler_count;
} tidemill_plugin_table;

/* The one symbol that a plugin exports. What it returns lives as long as the process. */
const tidemill_plugin_table *tidemill_plugin(void);

#ifdef __cplusplus
}
#endif
#endif
