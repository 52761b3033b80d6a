package motoric;

import java.net.http.HttpResponse;

/** What the server, or this client, says is wrong; the message is for a person to read. */
public final class MotoricException extends RuntimeException {
    private static final long serialVersionUID = 1;

    private final int status;

    /** An error with the HTTP status that the server gave. */
    public MotoricException(int status, String detail) {
        super(detail);
        this.status = status;
    }

    /** An error that no HTTP answer told of. */
    public MotoricException(String message) {
        this(0, message);
    }

    /** The problem document (RFC 9457) of an answer; a proxy in between may send none. */
    static MotoricException of(HttpResponse<?> response) {
        String type = response.headers().firstValue("Content-Type").orElse("");
        int status = response.statusCode();
        if (type.startsWith("application/problem+json") && response.body() instanceof String body) {
            Object detail = Json.object(body).get("detail");
            return new MotoricException(status, String.valueOf(detail));
        }
        return new MotoricException(status, "the server answered with status " + status);
    }

    /** HTTP status, or 0. */
    public int status() {
        return status;
    }
}
