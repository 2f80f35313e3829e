import java.net.HttpURLConnection;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;

/** The clients in Java: Client CLIENT URL prints the answer. That of Client pool URL SECONDS is the second one. */
class Client {
    public static void main(String[] arguments) throws Exception {
        URI uri = URI.create(arguments[1]);
        switch (arguments[0]) {
            case "HttpURLConnection" -> {
                var connection = (HttpURLConnection) uri.toURL().openConnection();
                connection.getInputStream().transferTo(System.out);
            }
            case "HttpClient" -> {
                var request = HttpRequest.newBuilder(uri).build();
                var answer = HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString());
                System.out.print(answer.body());
            }
            case "pool" -> {
                var client = HttpClient.newHttpClient();
                var request = HttpRequest.newBuilder(uri);
                client.send(request.build(), HttpResponse.BodyHandlers.discarding());
                Thread.sleep(Integer.parseInt(arguments[2]) * 1000);
                // Not GET, which the client would send again by itself.
                request = HttpRequest.newBuilder(uri.resolve("/")).POST(HttpRequest.BodyPublishers.noBody());
                var answer = client.send(request.build(), HttpResponse.BodyHandlers.ofString());
                System.out.print(answer.body());
            }
            default -> throw new IllegalArgumentException(arguments[0]);
        }
    }
}
