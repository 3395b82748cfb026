/*
 * A handler of windows in plain C. It writes down what it is given, one output a thing: first the window, then each of its
 * events with its type and first header, all under the key and at the time of the window; then what is missing, under
 * none and at a time of its own.
 *
 * With HANDLER_SIZE its table ends where that says.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <tidemill.h>

#define TEXT(literal) {(const uint8_t *)(literal), sizeof(literal) - 1}

#ifndef HANDLER_SIZE
#define HANDLER_SIZE sizeof(tidemill_handler)
#endif

static int32_t init(const tidemill_setup *setup, void **instance) {
    (void)setup;
    *instance = NULL;
    return TIDEMILL_OK;
}

static int32_t reject(const tidemill_call *call, const char *why) {
    tidemill_slice message = {(const uint8_t *)why, strlen(why)};
    tidemill_failure failure = {.size = sizeof failure, .version = TIDEMILL_VERSION, .message = message};
    call->host->fail(call->context, &failure);
    return TIDEMILL_REJECT;
}

static int32_t handle(void *instance, const tidemill_event *event, const tidemill_call *call) {
    (void)instance;
    tidemill_slice name = TEXT("id"), id;
    tidemill_header header;
    const tidemill_host *host = call->host;
    if (host->size >= offsetof(tidemill_host, window_attribute) + sizeof host->window_attribute) {
        if (host->window_header(call->context, 0, 0, &header) != TIDEMILL_ABSENT ||
            host->window_attribute(call->context, 0, name, &id) != TIDEMILL_ABSENT) {
            return reject(call, "there is no window here");
        }
    }
    tidemill_output output = {.size = sizeof output, .version = TIDEMILL_VERSION, .value = event->data};
    return host->emit(call->context, &output) == TIDEMILL_FOUND ? TIDEMILL_OK : TIDEMILL_REJECT;
}

static int32_t on_window(void *instance, const tidemill_window *window, const tidemill_call *call) {
    (void)instance;
    const tidemill_host *host = call->host;
    tidemill_slice type = TEXT("type"), text;
    tidemill_header header;
    if (host->header(call->context, 0, &header) != TIDEMILL_ABSENT ||
        host->attribute(call->context, type, &text) != TIDEMILL_ABSENT) {
        return reject(call, "there is no single event here");
    }
    if (host->window_header(call->context, window->event_count, 0, &header) != TIDEMILL_ABSENT ||
        host->window_attribute(call->context, window->event_count, type, &text) != TIDEMILL_ABSENT) {
        return reject(call, "there is no event behind the last");
    }

    char line[256];
    int length = snprintf(line, sizeof line, "%.*s [%" PRId64 " %" PRId64 "] %.*s %zu %.*s", (int)window->key.length,
                          (const char *)window->key.pointer, window->start_ms, window->end_ms, (int)window->fired.length,
                          (const char *)window->fired.pointer, window->event_count, (int)window->aggregates.length,
                          window->aggregates.pointer == NULL ? "" : (const char *)window->aggregates.pointer);
    tidemill_output output = {.size = sizeof output, .version = TIDEMILL_VERSION};
    output.value = (tidemill_slice){(const uint8_t *)line, (size_t)length};
    if (host->emit(call->context, &output) != TIDEMILL_FOUND) {
        return reject(call, "the window was refused");
    }
    for (size_t i = 0; i < window->event_count; i += 1) {
        tidemill_header headers[2] = {{.name = TEXT("was"), .value = {NULL, 0}}};
        if (host->window_attribute(call->context, i, type, &headers[0].value) != TIDEMILL_FOUND) {
            return reject(call, "an event without a type");
        }
        output.header_count = host->window_header(call->context, i, 0, &headers[1]) == TIDEMILL_FOUND ? 2 : 1;
        output.headers = headers;
        output.value = window->events[i]->data;
        if (host->emit(call->context, &output) != TIDEMILL_FOUND) {
            return reject(call, "an event was refused");
        }
    }
    output = (tidemill_output){.size = sizeof output, .version = TIDEMILL_VERSION};
    output.key_kind = TIDEMILL_KEY_NULL;
    output.has_timestamp = 1;
    output.timestamp_ms = 7;
    for (size_t i = 0; i < window->missing_count; i += 1) {
        output.value = window->missing[i];
        if (host->emit(call->context, &output) != TIDEMILL_FOUND) {
            return reject(call, "a name was refused");
        }
    }
    return TIDEMILL_OK;
}

static void drop(void *instance) { (void)instance; }

static const tidemill_handler handler = {
    .size = HANDLER_SIZE,
    .version = TIDEMILL_VERSION,
    .name = TEXT("window"),
    .init = init,
    .handle = handle,
    .drop = drop,
    .on_window = on_window,
};

static const tidemill_handler *const handlers[] = {&handler};

static const tidemill_plugin_table plugin = {
    sizeof(tidemill_plugin_table), TIDEMILL_VERSION, TEXT("plain C"), handlers, 1,
};

const tidemill_plugin_table *tidemill_plugin(void) { return &plugin; }
