package dev.tidemill.benches;

import java.time.Duration;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.kstream.EmitStrategy;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.KTable;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Materialized.StoreType;
import org.apache.kafka.streams.kstream.SessionWindows;
import org.apache.kafka.streams.kstream.SlidingWindows;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.kstream.Windowed;
import org.apache.kafka.streams.state.SessionStore;
import org.apache.kafka.streams.state.WindowStore;

/** How many events a key has in a window, once the window has closed; written as Tidemill writes it. */
final class Counts {
  /** The changelog topic is called by it. */
  private static final String NAME = "counts";

  /**
   * Closed windows are looked for once a second of the clock. When a backlog is read, more than a window of event time can
   * pass between two looks; with the default retention, as long as the window, results were missing then.
   */
  private static final Duration RETENTION = Duration.ofMinutes(2);

  private Counts() {}

  static StoreType store(String name) {
    return name.equals("memory") ? StoreType.IN_MEMORY : StoreType.ROCKS_DB;
  }

  static KStream<String, String> byWindow(
      KStream<String, byte[]> input, String kind, Duration size, StoreType store) {
    var grouped = input.groupByKey(Grouped.with(Serdes.String(), Serdes.ByteArray()));
    Materialized<String, Long, WindowStore<Bytes, byte[]>> windows =
        Materialized.<String, Long, WindowStore<Bytes, byte[]>>as(NAME).withRetention(RETENTION);
    Materialized<String, Long, SessionStore<Bytes, byte[]>> sessions =
        Materialized.<String, Long, SessionStore<Bytes, byte[]>>as(NAME).withRetention(RETENTION);
    EmitStrategy close = EmitStrategy.onWindowClose();
    KTable<Windowed<String>, Long> counts =
        switch (kind) {
          case "tumbling" ->
              grouped
                  .windowedBy(TimeWindows.ofSizeWithNoGrace(size))
                  .emitStrategy(close)
                  .count(windows.withStoreType(store));
          case "session" ->
              grouped
                  .windowedBy(SessionWindows.ofInactivityGapWithNoGrace(size))
                  .emitStrategy(close)
                  .count(sessions.withStoreType(store));
          case "sliding" ->
              grouped
                  .windowedBy(SlidingWindows.ofTimeDifferenceWithNoGrace(size))
                  .emitStrategy(close)
                  .count(windows.withStoreType(store));
          default -> throw new IllegalArgumentException(kind);
        };
    return counts.toStream().map((key, count) -> KeyValue.pair(key.key(), json(key, count)));
  }

  private static String json(Windowed<String> key, long count) {
    return "{\"key\":\"" + key.key() + "\",\"window\":{\"start\":" + key.window().start() + ",\"end\":"
        + key.window().end() + ",\"fired\":\"close\"},\"events\":" + count + "}";
  }
}
