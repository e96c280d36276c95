# The application behind the servers. With TRUTH each answer also writes what Ruby says that it has loaded.
if ENV["CACHE"]
  %w[bootsnap zeitwerk msgpack connection_pool].each { |name| gem name }
  require "bootsnap"
  Bootsnap.setup(cache_dir: ENV["CACHE"], development_mode: false, load_path_cache: true, compile_cache_iseq: true, compile_cache_yaml: true)
end
require "zeitwerk"
loader = Zeitwerk::Loader.new
loader.push_dir("#{__dir__}/lib")
loader.setup
Object.autoload(:ConnectionPool, "connection_pool")

run(lambda do |env|
  answer = case env["PATH_INFO"]
  when "/late" then Greeting.new.text # by zeitwerk, which brings msgpack
  when "/autoload" then ConnectionPool::VERSION
  when "/load" then load("#{__dir__}/lib/loaded.rb").to_s
  else "up"
  end
  File.open(ENV["TRUTH"], "a") { |file| file.puts($LOADED_FEATURES) } if ENV["TRUTH"]
  [200, { "Content-Type" => "text/plain" }, [answer]]
end)
