class Greeting; module Word; HELLO = "hello"; end; end
