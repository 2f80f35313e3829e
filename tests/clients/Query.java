import java.sql.DriverManager;

/** The drivers of databases: Query URL STATEMENT prints the answer. */
class Query {
    public static void main(String[] arguments) throws Exception {
        try (var connection = DriverManager.getConnection(arguments[0]);
                var answer = connection.createStatement().executeQuery(arguments[1])) {
            answer.next();
            System.out.println(answer.getString(1));
        }
    }
}
