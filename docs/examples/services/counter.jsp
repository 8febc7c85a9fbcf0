<%@ page contentType="text/plain" import="java.io.*, java.nio.file.*, java.nio.file.attribute.*" %><%!
	/* Visits of all sessions; a line for each is in a file, too. */
	private int total;
	private final Path log = Paths.get(System.getProperty("java.io.tmpdir"), "visits");

	private synchronized int[] count() throws IOException {
		Files.write(log, (++total + "\n").getBytes(), StandardOpenOption.CREATE, StandardOpenOption.APPEND);
		return new int[] { total, Files.readAllLines(log).size() };
	}
%><%
	Integer mine = (Integer) session.getAttribute("visits");
	mine = mine == null ? 1 : mine + 1;
	session.setAttribute("visits", mine);
	int[] all = count();
%>{"session": <%= mine %>, "total": <%= all[0] %>, "file": <%= all[1] %>}
