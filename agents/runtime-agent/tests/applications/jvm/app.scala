package plimsoll.scala

import scala.collection.immutable.TreeMap

case class Named(name: String)

object Main {
  def main(arguments: Array[String]): Unit = {
    val names = TreeMap("b" -> Named("b"), "a" -> Named("a"))
    println(names.map { case (key, named) => key -> named.name.toUpperCase }.mkString(" "))
  }
}
