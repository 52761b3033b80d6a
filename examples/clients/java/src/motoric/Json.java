package motoric;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * As much of JSON (RFC 8259) as the client needs, since the JDK has none; a project that has Jackson
 * or Gson uses that.
 *
 * <p>Objects are maps, arrays are lists, whole numbers are Long and others Double.
 */
final class Json {
    private static final int MAX_DEPTH = 64;
    private final String text;
    private int place;

    private Json(String text) {
        this.text = text;
    }

    /** Reads a document that is an object. */
    @SuppressWarnings("unchecked")
    static Map<String, Object> object(String text) {
        Json json = new Json(text);
        Object value = json.value(0);
        json.space();
        if (json.place != text.length() || !(value instanceof Map)) {
            throw json.wrong();
        }
        return (Map<String, Object>) value;
    }

    /** Writes maps, iterables, strings, numbers, booleans and null. */
    static String write(Object value) {
        if (value instanceof Map<?, ?> map) {
            List<String> parts = new ArrayList<>();
            map.forEach((key, item) -> parts.add(quoted(key.toString()) + ":" + write(item)));
            return "{" + String.join(",", parts) + "}";
        }
        if (value instanceof Iterable<?> items) {
            List<String> parts = new ArrayList<>();
            items.forEach(item -> parts.add(write(item)));
            return "[" + String.join(",", parts) + "]";
        }
        return value instanceof String string ? quoted(string) : String.valueOf(value);
    }

    @SuppressWarnings("unchecked")
    static Map<String, Object> map(Object value) {
        return (Map<String, Object>) value;
    }

    @SuppressWarnings("unchecked")
    static List<Object> list(Object value) {
        return (List<Object>) value;
    }

    static double number(Object value) {
        return ((Number) value).doubleValue();
    }

    static long whole(Object value) {
        return ((Number) value).longValue();
    }

    private Object value(int depth) {
        if (depth > MAX_DEPTH) {
            throw wrong();
        }
        space();
        switch (peek()) {
            case '{':
                return map(depth);
            case '[':
                return list(depth);
            case '"':
                return string();
            case 't':
                return word("true", Boolean.TRUE);
            case 'f':
                return word("false", Boolean.FALSE);
            case 'n':
                return word("null", null);
            default:
                return number();
        }
    }

    private Map<String, Object> map(int depth) {
        Map<String, Object> found = new LinkedHashMap<>();
        place++;
        if (ends('}')) {
            return found;
        }
        do {
            space();
            String key = string();
            space();
            expect(':');
            found.put(key, value(depth + 1));
        } while (goesOn('}'));
        return found;
    }

    private List<Object> list(int depth) {
        List<Object> found = new ArrayList<>();
        place++;
        if (ends(']')) {
            return found;
        }
        do {
            found.add(value(depth + 1));
        } while (goesOn(']'));
        return found;
    }

    private String string() {
        expect('"');
        StringBuilder found = new StringBuilder();
        while (peek() != '"') {
            char next = text.charAt(place++);
            found.append(next == '\\' ? escaped() : next);
        }
        place++;
        return found.toString();
    }

    private char escaped() {
        char kind = peek();
        place++;
        if (kind == 'u' && place + 4 <= text.length()) {
            place += 4;
            return (char) Integer.parseInt(text.substring(place - 4, place), 16);
        }
        int known = "\"\\/bfnrt".indexOf(kind);
        if (known < 0) {
            throw wrong();
        }
        return "\"\\/\b\f\n\r\t".charAt(known);
    }

    private Object number() {
        int start = place;
        while (place < text.length() && "+-.eE0123456789".indexOf(text.charAt(place)) >= 0) {
            place++;
        }
        String digits = text.substring(start, place);
        try {
            if (digits.matches("-?\\d+")) {
                return Long.valueOf(digits);
            }
            return Double.valueOf(digits);
        } catch (NumberFormatException error) {
            throw wrong();
        }
    }

    private Object word(String word, Object meaning) {
        if (!text.startsWith(word, place)) {
            throw wrong();
        }
        place += word.length();
        return meaning;
    }

    private boolean ends(char close) {
        space();
        if (peek() != close) {
            return false;
        }
        place++;
        return true;
    }

    private boolean goesOn(char close) {
        if (ends(close)) {
            return false;
        }
        expect(',');
        return true;
    }

    private void expect(char wanted) {
        if (peek() != wanted) {
            throw wrong();
        }
        place++;
    }

    private char peek() {
        if (place >= text.length()) {
            throw wrong();
        }
        return text.charAt(place);
    }

    private void space() {
        while (place < text.length() && " \t\r\n".indexOf(text.charAt(place)) >= 0) {
            place++;
        }
    }

    private MotoricException wrong() {
        return new MotoricException("the server's answer is no JSON at character " + place);
    }

    private static String quoted(String string) {
        StringBuilder out = new StringBuilder("\"");
        for (char next : string.toCharArray()) {
            if (next == '"' || next == '\\') {
                out.append('\\').append(next);
            } else if (next < ' ') {
                out.append(String.format("\\u%04x", (int) next));
            } else {
                out.append(next);
            }
        }
        return out.append('"').toString();
    }
}
