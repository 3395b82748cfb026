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

/* Results of `init` and of every call. */
#define TIDEMILL_OK 0     /* done */
#define TIDEMILL_SKIP 1   /* not of `init`: deliberately not handled; what it emitted is dropped, the call counted */
#define TIDEMILL_RETRY 2  /* it may go well later; say why with host->fail */
#define TIDEMILL_REJECT 3 /* it will never go well; say why with host->fail */
#define TIDEMILL_PANIC 4  /* the handler's code broke; a new instance is made before the next call */
#define TIDEMILL_STOP 5   /* not of `init`: nothing can go on; the function stops, and the call is made again when it
                           * starts; say why with host->fail. A host that has `state_get` knows it. */

/* Answers of callbacks. */
#define TIDEMILL_FOUND 0     /* done, or found */
#define TIDEMILL_ABSENT 1    /* header, attribute and their like for windows, state_get, lookup: there is none */
#define TIDEMILL_TOO_LARGE 2 /* it does not fit, nothing was staged */
#define TIDEMILL_INVALID 3   /* text is not UTF-8, too long or empty, a number has no meaning, there is no such table;
                              * nothing was staged */
#define TIDEMILL_NO_STATE 4    /* state and timers: the function's manifest has no `state` */
#define TIDEMILL_NO_ON_TIMER 5 /* timer_set: the handler has no `on_timer` */
#define TIDEMILL_OTHER_KEY 6   /* lookup: the table has what belongs to the call's key alone, and was asked for another */

/* Values of tidemill_output.key_kind. */
#define TIDEMILL_KEY_OF_EVENT 0u /* the key of the event, window or timer that is being handled */
#define TIDEMILL_KEY_NULL 1u     /* Kafka's null key */
#define TIDEMILL_KEY_BYTES 2u    /* the bytes in tidemill_output.key */

/* Clocks of timers. */
#define TIDEMILL_CLOCK_EVENT 0u /* event time, which is as far as the events have come */
#define TIDEMILL_CLOCK_WALL 1u  /* the wall clock */

/* tidemill_call.watermark_ms: event time has not begun. */
#define TIDEMILL_NO_WATERMARK INT64_MIN

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

/* One output. All zeros but `size` and `version` is a tombstone under the key and at the time of the event, window or
 * timer that is being handled. */
typedef struct tidemill_output {
    uint32_t size;               /* sizeof(tidemill_output) */
    uint32_t version;            /* TIDEMILL_VERSION */
    uint32_t key_kind;           /* TIDEMILL_KEY_… */
    uint32_t has_timestamp;      /* not 0: timestamp_ms counts */
    int64_t timestamp_ms;        /* since the epoch, not negative; without one: that of what is being handled */
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
 * `fail` was the last; a host that calls `on_window` has those for windows, and one that has `state_get` all that follow. */
typedef struct tidemill_host {
    uint32_t size;
    uint32_t version;
    /* The header at `index`, in the record's order: FOUND, or ABSENT past the end, and in a call that is not about
     * an event. Valid until the call ends. */
    int32_t (*header)(void *context, size_t index, tidemill_header *out);
    /* The CloudEvents attribute `name` as text: FOUND, or ABSENT, as always in a call that is not about an event.
     * Valid until the call ends. */
    int32_t (*attribute)(void *context, tidemill_slice name, tidemill_slice *out);
    /* Stages an output, copied: FOUND, TOO_LARGE or INVALID. Written if the call returns OK, dropped otherwise. */
    int32_t (*emit)(void *context, const tidemill_output *output);
    /* Writes a line to the host's log. Lines may be cut or dropped when there are too many. */
    void (*log)(void *context, uint32_t level, tidemill_slice text);
    /* Adds `by` to the author's counter `name`. */
    void (*count)(void *context, tidemill_slice name, uint64_t by);
    /* Says why the call is about to return RETRY, REJECT, PANIC or STOP; copied, the last one counts. */
    void (*fail)(void *context, const tidemill_failure *failure);
    /* `header` of the event at `event` of tidemill_window.events; ABSENT past their end, and without a window. */
    int32_t (*window_header)(void *context, size_t event, size_t index, tidemill_header *out);
    /* `attribute` of the event at `event` of tidemill_window.events; ABSENT past their end, and without a window. */
    int32_t (*window_attribute)(void *context, size_t event, tidemill_slice name, tidemill_slice *out);
    /* What the key of the call has under `name`, what the call itself has put there included: FOUND, ABSENT, INVALID or
     * NO_STATE. Valid until the next callback. Names are 1 to 256 bytes. */
    int32_t (*state_get)(void *context, tidemill_slice name, tidemill_slice *out);
    /* Gives the key of the call this value under `name`, copied; absent: none any more. After `ttl_ms` of event time it
     * is gone; 0: as the manifest says. FOUND, TOO_LARGE, INVALID or NO_STATE. As with all that a call does to its key it
     * holds if the call returns OK, and else was never done. */
    int32_t (*state_put)(void *context, tidemill_slice name, tidemill_slice value, uint64_t ttl_ms);
    /* Sets the timer `name` of the call's key to `at_ms`, not negative, on TIDEMILL_CLOCK_…; one of that name that was set
     * before does not fire any more. FOUND, TOO_LARGE, INVALID, NO_STATE or NO_ON_TIMER. */
    int32_t (*timer_set)(void *context, tidemill_slice name, uint32_t clock, int64_t at_ms);
    /* Takes back the timer `name` of the call's key, if there is one: FOUND, TOO_LARGE, INVALID or NO_STATE. */
    int32_t (*timer_cancel)(void *context, tidemill_slice name);
    /* What the table has for `key`: FOUND, ABSENT, INVALID where there is no such table, or OTHER_KEY. Valid until the
     * next callback. */
    int32_t (*lookup)(void *context, tidemill_slice table, tidemill_slice key, tidemill_slice *out);
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

/* One timer that fires; valid until `on_timer` returns. */
typedef struct tidemill_fired {
    uint32_t size;
    uint32_t version;
    tidemill_slice key;  /* that it was set for; never absent */
    tidemill_slice name;
    uint32_t clock;      /* TIDEMILL_CLOCK_… */
    uint32_t reserved;
    int64_t at_ms;       /* when it was to fire, since the epoch; that clock may have come further by now */
} tidemill_fired;

/* The circumstances of a call; valid until it returns. In the first release of this version `reserved` was the last. */
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
    int64_t watermark_ms;    /* how far event time has come, since the epoch; TIDEMILL_NO_WATERMARK: not begun */
} tidemill_call;

/* One handler of a plugin; lives as long as the process. In the first release of this version `drop` was the last; a
 * handler without `on_window` and `on_timer` may leave them out of `size`. */
typedef struct tidemill_handler {
    uint32_t size;       /* sizeof(tidemill_handler) */
    uint32_t version;    /* TIDEMILL_VERSION */
    tidemill_slice name; /* the manifest's `entry`; unique in the plugin, not empty */
    /* OK and *instance set (NULL if it needs none), or RETRY, REJECT or PANIC and no instance. */
    int32_t (*init)(const tidemill_setup *setup, void **instance);
    /* OK, SKIP, RETRY, REJECT, PANIC or STOP. */
    int32_t (*handle)(void *instance, const tidemill_event *event, const tidemill_call *call);
    /* Destroys an instance that `init` made. Called once. */
    void (*drop)(void *instance);
    /* A window gives its result; answers as `handle` does. NULL: the handler takes no windows. */
    int32_t (*on_window)(void *instance, const tidemill_window *window, const tidemill_call *call);
    /* A timer fires; answers as `handle` does. NULL: the handler sets none. */
    int32_t (*on_timer)(void *instance, const tidemill_fired *fired, const tidemill_call *call);
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
