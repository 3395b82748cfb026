package dev.tidemill.benches;

import java.time.Duration;
import java.util.Properties;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Produced;

/**
 * A copy from topic to topic or a count by window, exactly once, as a user of Kafka Streams would write it. It runs until
 * it is ended, and measures nothing itself: {@code tidemill-bench} watches it from outside, as it watches everybody.
 *
 * <p>Arguments: brokers, application id (the consumer group), input, output, state directory; for a count also the kind
 * of window, its size in milliseconds, and the store that keeps it ({@code rocksdb} or {@code memory}).
 */
public final class Peer {
  private Peer() {}

  public static void main(String[] args) {
    Properties settings = new Properties();
    settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, args[0]);
    settings.put(StreamsConfig.APPLICATION_ID_CONFIG, args[1]);
    settings.put(StreamsConfig.STATE_DIR_CONFIG, args[4]);
    settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 1);
    settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
    settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 100);
    settings.put("auto.offset.reset", "earliest");

    StreamsBuilder builder = new StreamsBuilder();
    var input = builder.stream(args[2], Consumed.with(Serdes.String(), Serdes.ByteArray()));
    if (args.length == 5) {
      input.mapValues(value -> value).to(args[3], Produced.with(Serdes.String(), Serdes.ByteArray()));
    } else {
      Counts.byWindow(input, args[5], Duration.ofMillis(Long.parseLong(args[6])), Counts.store(args[7]))
          .to(args[3], Produced.with(Serdes.String(), Serdes.String()));
    }

    KafkaStreams streams = new KafkaStreams(builder.build(), settings);
    streams.setUncaughtExceptionHandler(error -> StreamThreadExceptionResponse.SHUTDOWN_CLIENT);
    Runtime.getRuntime().addShutdownHook(new Thread(() -> streams.close(Duration.ofSeconds(10))));
    streams.start();
  }
}
