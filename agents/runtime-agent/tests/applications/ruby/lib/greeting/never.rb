class Greeting; Never = 1; end
