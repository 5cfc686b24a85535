// JDBC through the gateway: server-side prepared statements, batches, streamed results, COPY, large objects, fastpath,
// cancellation, notifications, and what DBeaver asks when it opens a connection. Prints "ok" when all of it held.
// usage: java Client HOST PORT DATABASE USER SSLMODE [SSLROOTCERT]

import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.nio.charset.StandardCharsets;
import java.sql.*;
import java.util.Arrays;
import java.util.Properties;
import java.util.Timer;
import java.util.TimerTask;
import java.util.concurrent.Executors;
import org.postgresql.PGConnection;
import org.postgresql.copy.CopyManager;
import org.postgresql.largeobject.LargeObject;
import org.postgresql.largeobject.LargeObjectManager;

public class Client {
  static String url;
  static Properties usual = new Properties();

  static void check(boolean holds, String what) {
    if (!holds) throw new AssertionError(what);
  }

  static Connection connect(String... more) throws SQLException {
    Properties properties = new Properties();
    properties.putAll(usual);
    for (int at = 0; at < more.length; at += 2) properties.setProperty(more[at], more[at + 1]);
    return DriverManager.getConnection(url, properties);
  }

  static void prepared() throws SQLException {
    // A threshold of 1 prepares on the server at once; from then on values and rows are binary.
    try (Connection connection = connect("prepareThreshold", "1");
        PreparedStatement statement = connection.prepareStatement("SELECT ?::int * 2, ?::text, ?::timestamptz")) {
      Timestamp now = new Timestamp(1767323045000L);
      for (int n = 0; n < 50; n++) {
        statement.setInt(1, n);
        statement.setString(2, "ü ' " + n);
        statement.setTimestamp(3, now);
        try (ResultSet rows = statement.executeQuery()) {
          check(rows.next() && rows.getInt(1) == 2 * n && rows.getString(2).equals("ü ' " + n), "row " + n);
          check(rows.getTimestamp(3).equals(now), "the time");
        }
      }
    }
    try (Connection connection = connect("preferQueryMode", "simple"); Statement statement = connection.createStatement()) {
      check(statement.execute("SELECT 1; SELECT 2") && statement.getMoreResults(), "two results");
    }
  }

  static void batches() throws SQLException {
    for (String rewrite : new String[] {"false", "true"}) {
      try (Connection connection = connect("reWriteBatchedInserts", rewrite); Statement statement = connection.createStatement()) {
        statement.execute("CREATE TEMP TABLE batched (id int PRIMARY KEY, name text)");
        try (PreparedStatement insert = connection.prepareStatement("INSERT INTO batched VALUES (?, ?)")) {
          for (int n = 0; n < 5000; n++) {
            insert.setInt(1, n);
            insert.setString(2, "name " + n);
            insert.addBatch();
          }
          check(insert.executeBatch().length == 5000, "a count for each");
          insert.setInt(1, 6000);
          insert.setString(2, "new");
          insert.addBatch();
          insert.setInt(1, 1);
          insert.setString(2, "a double");
          insert.addBatch();
          try {
            insert.executeBatch();
            check(false, "a double key was taken");
          } catch (BatchUpdateException error) {
            check(error.getNextException().getSQLState().equals("23505"), "unique_violation");
          }
        }
        try (ResultSet rows = statement.executeQuery("SELECT count(*) FROM batched WHERE id < 5000")) {
          check(rows.next() && rows.getInt(1) == 5000, "all of the batch");
        }
      }
    }
  }

  static void streamed() throws SQLException {
    try (Connection connection = connect(); Statement statement = connection.createStatement()) {
      connection.setAutoCommit(false);
      statement.setFetchSize(100);
      long sum = 0;
      try (ResultSet rows = statement.executeQuery("SELECT n, repeat('x', 200) FROM generate_series(1, 20000) n")) {
        while (rows.next()) sum += rows.getLong(1);
      }
      check(sum == 20000L * 20001 / 2, "the sum");
      Savepoint savepoint = connection.setSavepoint("here");
      try {
        statement.execute("SELECT * FROM nowhere");
        check(false, "a table that is not there");
      } catch (SQLException error) {
        check(error.getSQLState().equals("42P01"), "undefined_table");
      }
      connection.rollback(savepoint);
      try (ResultSet rows = statement.executeQuery("SELECT 1")) {
        check(rows.next(), "the transaction goes on");
      }
      connection.commit();
    }
  }

  static void copies() throws Exception {
    try (Connection connection = connect(); Statement statement = connection.createStatement()) {
      statement.execute("CREATE TEMP TABLE copied (id int, name text)");
      StringBuilder text = new StringBuilder();
      for (int n = 0; n < 20000; n++) text.append(n).append('\t').append("name ").append(n).append('\n');
      byte[] bytes = text.toString().getBytes(StandardCharsets.UTF_8);
      CopyManager copies = connection.unwrap(PGConnection.class).getCopyAPI();
      check(copies.copyIn("COPY copied FROM STDIN", new ByteArrayInputStream(bytes)) == 20000, "rows in");
      ByteArrayOutputStream out = new ByteArrayOutputStream();
      copies.copyOut("COPY (SELECT * FROM copied ORDER BY id) TO STDOUT", out);
      check(Arrays.equals(bytes, out.toByteArray()), "the same bytes out");
    }
  }

  // Large objects go through FunctionCall messages, as does everything of the driver's fastpath.
  static void largeObjects() throws Exception {
    try (Connection connection = connect()) {
      connection.setAutoCommit(false);
      LargeObjectManager objects = connection.unwrap(PGConnection.class).getLargeObjectAPI();
      byte[] bytes = new byte[1_000_000];
      for (int at = 0; at < bytes.length; at++) bytes[at] = (byte) (at * 31);
      long id = objects.createLO();
      try (LargeObject object = objects.open(id, LargeObjectManager.READWRITE)) {
        object.write(bytes);
        object.seek(500_000);
        check(object.read(1)[0] == bytes[500_000], "a byte in the middle");
        object.seek(0);
        check(Arrays.equals(object.read(bytes.length), bytes), "the same bytes");
      }
      objects.delete(id);
      connection.commit();
    }
  }

  static void cancelled() throws SQLException {
    try (Connection connection = connect(); Statement statement = connection.createStatement()) {
      Timer timer = new Timer(true);
      timer.schedule(new TimerTask() {
        public void run() {
          try { statement.cancel(); } catch (SQLException error) { throw new IllegalStateException(error); }
        }
      }, 500);
      try {
        statement.execute("SELECT pg_sleep(100)");
        check(false, "not cancelled");
      } catch (SQLException error) {
        check(error.getSQLState().equals("57014"), "query_canceled, not " + error.getSQLState());
      }
      statement.setQueryTimeout(1);
      try {
        statement.execute("SELECT pg_sleep(100)");
        check(false, "not timed out");
      } catch (SQLException error) {
        check(error.getSQLState().equals("57014"), "query_canceled, not " + error.getSQLState());
      }
      statement.setQueryTimeout(0);
      // PostgreSQL signals a backend and its process group, so that one request may cancel two statements.
      try {
        statement.execute("SELECT pg_sleep(0.1)");
      } catch (SQLException error) {
        check(error.getSQLState().equals("57014"), "query_canceled, not " + error.getSQLState());
      }
      try (ResultSet rows = statement.executeQuery("SELECT 1")) {
        check(rows.next(), "alive");
      }
    }
  }

  static void notified() throws SQLException {
    try (Connection connection = connect(); Connection other = connect(); Statement statement = connection.createStatement()) {
      statement.execute("LISTEN news");
      try (Statement notify = other.createStatement()) {
        notify.execute("NOTIFY news, 'one'");
      }
      var heard = connection.unwrap(PGConnection.class).getNotifications(60_000);
      check(heard != null && heard[0].getParameter().equals("one"), "the notification");
    }
  }

  // What DBeaver does when it opens a connection and its tree of tables.
  static void dbeaver() throws Exception {
    try (Connection connection = connect("ApplicationName", "DBeaver 24.0 - Main", "loginTimeout", "20", "connectTimeout", "20",
        "extra_float_digits", "3", "tcpKeepAlive", "true")) {
      connection.setNetworkTimeout(Executors.newSingleThreadExecutor(task -> {
        Thread thread = new Thread(task);
        thread.setDaemon(true);
        return thread;
      }), 60_000);
      check(connection.isValid(30), "valid");
      connection.setClientInfo("ApplicationName", "DBeaver 24.0 - SQLEditor");
      DatabaseMetaData data = connection.getMetaData();
      check(data.getDatabaseProductName().equals("PostgreSQL"), "the product");
      try (Statement statement = connection.createStatement()) {
        for (String query : DBEAVER) {
          try (ResultSet rows = statement.executeQuery(query)) {
            while (rows.next()) rows.getString(1);
          }
        }
      }
      for (ResultSet rows : new ResultSet[] {data.getSchemas(), data.getTables(null, "pg_catalog", "pg_cl%", null),
          data.getColumns(null, "pg_catalog", "pg_class", null), data.getPrimaryKeys(null, "pg_catalog", "pg_class"),
          data.getIndexInfo(null, "pg_catalog", "pg_class", false, true), data.getTypeInfo(), data.getFunctions(null, "pg_catalog", "lo%")}) {
        check(rows.next(), "rows of metadata");
        rows.close();
      }
    }
  }

  static final String[] DBEAVER = {
    "SELECT version()",
    "SHOW search_path",
    "SELECT current_schema(),session_user",
    "SELECT db.oid,db.* FROM pg_catalog.pg_database db WHERE datallowconn AND NOT datistemplate OR db.datname = 'postgres' ORDER BY db.datname",
    "SELECT n.oid,n.*,d.description FROM pg_catalog.pg_namespace n LEFT OUTER JOIN pg_catalog.pg_description d ON d.objoid=n.oid AND d.objsubid=0 AND d.classoid='pg_namespace'::regclass ORDER BY nspname",
    "SELECT t.oid,t.*,c.relkind,format_type(nullif(t.typbasetype, 0), t.typtypmod) as base_type_name, d.description FROM pg_catalog.pg_type t LEFT OUTER JOIN pg_catalog.pg_type et ON et.oid=t.typelem LEFT OUTER JOIN pg_catalog.pg_class c ON c.oid=t.typrelid LEFT OUTER JOIN pg_catalog.pg_description d ON t.oid=d.objoid WHERE t.typname IS NOT NULL AND (c.relkind IS NULL OR c.relkind = 'c') AND (et.typcategory IS NULL OR et.typcategory <> 'C')",
    "SELECT c.oid,c.*,d.description,pg_catalog.pg_get_expr(c.relpartbound, c.oid) as partition_expr, pg_catalog.pg_get_partkeydef(c.oid) as partition_key FROM pg_catalog.pg_class c LEFT OUTER JOIN pg_catalog.pg_description d ON d.objoid=c.oid AND d.objsubid=0 AND d.classoid='pg_class'::regclass WHERE c.relkind not in ('i','I','c')",
    "SELECT s.setting FROM pg_catalog.pg_settings s WHERE s.name='default_transaction_isolation'",
    "SELECT typcategory FROM pg_catalog.pg_type WHERE 1<>1 LIMIT 1 OFFSET 0",
    "SELECT * FROM pg_catalog.pg_enum WHERE 1<>1 LIMIT 1",
    "SELECT reltype FROM pg_catalog.pg_class WHERE 1<>1 LIMIT 1",
  };

  interface Story {
    void tell() throws Exception;
  }

  public static void main(String[] words) throws Exception {
    url = "jdbc:postgresql://" + words[0] + ":" + words[1] + "/" + words[2];
    usual.setProperty("user", words[3]);
    usual.setProperty("sslmode", words[4]);
    if (words.length > 5) usual.setProperty("sslrootcert", words[5]);
    Story[] stories = {Client::prepared, Client::batches, Client::streamed, Client::copies, Client::largeObjects,
        Client::cancelled, Client::notified, Client::dbeaver};
    for (Story story : stories) story.tell();
    System.out.println("ok");
  }
}
